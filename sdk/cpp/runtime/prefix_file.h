// Files of keys and values of the tokens that begin every prompt: docs/BUNDLE.md, "Prompts".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/kv_type.h"
#include "runtime/mapped_file.h"
#include "runtime/session.h"

namespace rubricrm {

// The name of the file that holds a prompt's prefix in one type of KV cache.
std::string prefix_file_name(const std::string& prompt, const std::string& kv_type);

// Token ids and their keys and values, which are in a mapped file or in memory of this object. It may be moved, which
// leaves them where they are.
class Prefix {
 public:
  // Maps and checks a file. `has_digest`: also compares the SHA-256 that the file states, for where no manifest vouches
  // for it. Throws BUNDLE_INVALID: it cannot be read, or does not fit the model.
  static Prefix load(const fs::path& path, const ModelFacts& model, const KvType& type, bool has_digest);
  // Takes what a session computed.
  Prefix(TokenIds token_ids, std::string positions);

  const TokenIds& token_ids() const { return token_ids_; }
  // Valid as long as this object.
  Positions positions() const { return {bytes().data(), static_cast<int64_t>(token_ids_.size())}; }
  std::string_view bytes() const { return file_ ? in_file_ : std::string_view(*computed_); }

  // Writes a file, the same bytes as the Python package; a reader sees all of it or none. Throws FileError.
  void save(const fs::path& path, const ModelFacts& model, const KvType& type) const;

 private:
  Prefix(TokenIds token_ids, MappedFile file, std::string_view in_file);

  TokenIds token_ids_;
  std::unique_ptr<const std::string> computed_;
  std::optional<MappedFile> file_;
  std::string_view in_file_;
};

}  // namespace rubricrm
