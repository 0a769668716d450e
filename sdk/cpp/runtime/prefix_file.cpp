#include "runtime/prefix_file.h"

#include <stdexcept>

#include "error.h"
#include "runtime/safetensors.h"
#include "runtime/sha256.h"

namespace rubricrm {
namespace {

constexpr const char* kTensor = "positions";

[[noreturn]] void invalid(const fs::path& path, const std::string& what) {
  throw Error(Code::BUNDLE_INVALID, path.string() + ": " + what);
}

std::vector<int64_t> shape_of(const ModelFacts& model, size_t count) {
  return {model.num_layers, 2, 1, model.num_kv_heads, static_cast<int64_t>(count), model.head_dim};
}

std::string joined(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const int64_t number : numbers) text += (text.empty() ? "[" : ", ") + std::to_string(number);
  return (text.empty() ? "[" : text) + "]";
}

TokenIds split(const std::string& text) {
  TokenIds ids;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    int64_t id = 0;
    if (end == start || (end != text.size() && end + 1 == text.size()))
      throw std::runtime_error("a token id is missing");
    for (size_t n = start; n < end; ++n) {
      id = id * 10 + (text[n] - '0');
      if (text[n] < '0' || text[n] > '9' || id > INT32_MAX) throw std::runtime_error("a token id is no number");
    }
    ids.push_back(static_cast<int32_t>(id));
    start = end + 1;
  }
  return ids;
}

std::string metadata(const SafeTensors& file, const char* key) {
  const auto found = file.metadata.find(key);
  return found == file.metadata.end() ? "" : found->second;
}

}  // namespace

std::string prefix_file_name(const std::string& prompt, const std::string& kv_type) {
  return "prefix." + prompt + "." + kv_type + ".safetensors";
}

Prefix::Prefix(TokenIds token_ids, std::string positions)
    : token_ids_(std::move(token_ids)), computed_(std::make_unique<const std::string>(std::move(positions))) {}

Prefix::Prefix(TokenIds token_ids, MappedFile file, std::string_view in_file)
    : token_ids_(std::move(token_ids)), file_(std::move(file)), in_file_(in_file) {}

Prefix Prefix::load(const fs::path& path, const ModelFacts& model, const KvType& type, bool has_digest) {
  try {
    MappedFile file(path);
    const SafeTensors contents = parse_safetensors(file.bytes());
    const auto tensor = contents.tensors.find(kTensor);
    TokenIds token_ids = split(metadata(contents, "token_ids"));
    const std::vector<int64_t> shape = shape_of(model, token_ids.size());
    const bool is_alone = contents.tensors.size() == 1 && tensor != contents.tensors.end();
    if (!is_alone || tensor->second.type != type.safetensors || tensor->second.shape != shape) {
      invalid(path, "holds " + (is_alone ? tensor->second.type + " " + joined(tensor->second.shape) : "other tensors") +
                        ", expected " + kTensor + " of " + type.storage + " " + joined(shape) + " for its " +
                        std::to_string(token_ids.size()) + " tokens. Export the bundle again.");
    }
    const std::string_view bytes = tensor->second.bytes;
    if (const int64_t count = count_not_finite(type, bytes)) {
      invalid(path, std::to_string(count) + " of its keys and values are not finite. Export the bundle again.");
    }
    if (has_digest && metadata(contents, "sha256") != sha256_hex(bytes)) {
      invalid(path, "its contents do not have the SHA-256 that it states: it was damaged.");
    }
    return Prefix(std::move(token_ids), std::move(file), bytes);
  } catch (const Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    invalid(path, std::string("cannot be read (") + error.what() + "). Export the bundle again.");
  }
}

void Prefix::save(const fs::path& path, const ModelFacts& model, const KvType& type) const {
  std::string ids;
  for (const int32_t id : token_ids_) ids += (ids.empty() ? "" : ",") + std::to_string(id);
  const SafeTensor tensor{type.safetensors, shape_of(model, token_ids_.size()), bytes()};
  std::string contents = safetensors_header(kTensor, tensor, {{"token_ids", ids}, {"sha256", sha256_hex(bytes())}});
  contents += bytes();
  write_whole(path, contents);
}

}  // namespace rubricrm
