#include "generation/phrase_file.h"

#include <cstring>
#include <map>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "runtime/safetensors.h"
#include "runtime/sha256.h"

namespace rubricrm {
namespace {

constexpr const char* kFormat = "1";
constexpr const char* kTensor = "entries";
constexpr int kSymbolShift = 8, kHitsShift = 4, kCountMask = 15;

// A context, and successor << 8 | hits << 4 | occurrences.
using Pair = int64_t[2];

std::string packed(const std::vector<NextToken::Entry>& entries) {
  std::string bytes(entries.size() * sizeof(Pair), '\0');
  for (size_t n = 0; n < entries.size(); ++n) {
    const auto& [context, symbol, hits, occurrences] = entries[n];
    const Pair pair = {static_cast<int64_t>(context),
                       int64_t{symbol} << kSymbolShift | int64_t{hits} << kHitsShift | occurrences};
    std::memcpy(&bytes[n * sizeof(Pair)], pair, sizeof(Pair));
  }
  return bytes;
}

NextToken::Entry unpacked(const Pair& pair, int32_t num_tokens) {
  const auto& [context, value] = pair;
  const int64_t symbol = value >> kSymbolShift, hits = value >> kHitsShift & kCountMask, seen = value & kCountMask;
  const bool is_symbol = (0 <= symbol && symbol < num_tokens) || symbol == kNumber;
  const bool is_sound = context > 0 && context >> 3 * kSymbolBits == 0 && is_symbol && 0 < hits && hits <= seen;
  if (!is_sound) throw std::runtime_error("it is damaged");
  return {static_cast<Context>(context), static_cast<int32_t>(symbol), static_cast<int32_t>(hits),
          static_cast<int32_t>(seen)};
}

std::string value_of(const std::map<std::string, std::string>& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : found->second;
}

// Throws std::runtime_error with a clause that says why it is no use.
std::vector<NextToken::Entry> parse(std::string_view file, const std::string& tokenizer_sha256, int32_t num_tokens) {
  SafeTensors found;
  try {
    found = parse_safetensors(file);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string("it is damaged: ") + error.what());
  }
  const auto tensor = found.tensors.find(kTensor);
  const bool is_whole = tensor != found.tensors.end() && tensor->second.type == "I64" &&
                        tensor->second.shape.size() == 2 && tensor->second.shape[1] == 2 &&
                        value_of(found.metadata, "format") == kFormat &&
                        value_of(found.metadata, "sha256") == sha256_hex(tensor->second.bytes);
  if (!is_whole) throw std::runtime_error("it is damaged");
  if (value_of(found.metadata, "tokenizer_sha256") != tokenizer_sha256) {
    throw std::runtime_error("it is of another tokenizer");
  }
  const std::string_view bytes = tensor->second.bytes;
  std::vector<NextToken::Entry> entries;
  for (size_t at = 0; at < bytes.size(); at += sizeof(Pair)) {
    Pair pair;
    std::memcpy(pair, bytes.data() + at, sizeof(Pair));
    entries.push_back(unpacked(pair, num_tokens));
  }
  return entries;
}

}  // namespace

void save_phrases(const PhraseTable& table, const fs::path& path, const std::string& tokenizer_sha256) {
  const std::string bytes = packed(table.entries());
  const SafeTensor tensor{"I64", {static_cast<int64_t>(bytes.size() / sizeof(Pair)), 2}, bytes};
  const std::map<std::string, std::string> metadata = {
      {"format", kFormat}, {"tokenizer_sha256", tokenizer_sha256}, {"sha256", sha256_hex(bytes)}};
  std::error_code ignored;  // what follows says it better
  fs::create_directories(path.parent_path(), ignored);
  if (fs::is_other(path, ignored)) throw FileError(path.string() + ": is no regular file");  // /dev/null, say
  write_whole(path, safetensors_header(kTensor, tensor, metadata) + bytes);
}

LoadedPhrases load_phrases(const fs::path& path, const ItemNumbers& numbers, const std::string& tokenizer_sha256,
                           int64_t most_entries) {
  LoadedPhrases loaded{std::make_unique<PhraseTable>(numbers, most_entries), ""};
  std::error_code unknown;
  if (fs::status(path, unknown).type() == fs::file_type::not_found) return loaded;
  try {
    loaded.table->assign(parse(read_file(path), tokenizer_sha256, numbers.num_tokens()));
  } catch (const std::runtime_error& error) {
    loaded.warning =
        path.string() + ": its phrases are not used (" + error.what() + "). `rubricrm phrases --clear` removes it.";
  }
  return loaded;
}

}  // namespace rubricrm
