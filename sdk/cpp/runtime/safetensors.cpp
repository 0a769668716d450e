#include "runtime/safetensors.h"

#include <algorithm>
#include <stdexcept>

#include "runtime/json_document.h"

namespace rubricrm {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMostHeaderBytes = 100'000'000;
constexpr size_t kAlignment = 8;
constexpr const char* kMetadata = "__metadata__";

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

uint64_t item_size(const std::string& type) {
  static const std::map<std::string, uint64_t> sizes{
      {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"F16", 2},    {"BF16", 2},
      {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  const auto found = sizes.find(type);
  if (found == sizes.end()) fail("a tensor has the type " + type);
  return found->second;
}

uint64_t unsigned_number(const Json& value) {
  if (!value.is_number_unsigned()) fail("a size or an offset is no number");
  return value.get<uint64_t>();
}

uint64_t num_bytes(const SafeTensor& tensor) {
  uint64_t bytes = item_size(tensor.type);
  for (const int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) fail("a shape is too large");
  }
  return bytes;
}

struct Placed {
  uint64_t start, end;
  SafeTensor tensor;
};

Placed read_tensor(const Json& entry) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets") || !entry["dtype"].is_string() || !entry["shape"].is_array() ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
    fail("an entry of its header is no description of a tensor");
  }
  Placed placed{unsigned_number(entry["data_offsets"][0]), unsigned_number(entry["data_offsets"][1]), {}};
  placed.tensor.type = entry["dtype"].get<std::string>();
  for (const Json& size : entry["shape"]) {
    if (unsigned_number(size) > INT64_MAX) fail("a shape is too large");
    placed.tensor.shape.push_back(size.get<int64_t>());
  }
  if (placed.end < placed.start || placed.end - placed.start != num_bytes(placed.tensor)) {
    fail("a tensor has other bytes than its shape");
  }
  return placed;
}

void read_metadata(const Json& entry, SafeTensors& result) {
  if (!entry.is_object()) fail("its metadata are no object");
  for (const auto& item : entry.items()) {
    if (!item.value().is_string()) fail("its metadata hold what is no text");
    result.metadata.emplace(item.key(), item.value().get<std::string>());
  }
}

}  // namespace

SafeTensors parse_safetensors(std::string_view file) {
  if (file.size() < kLengthBytes) fail("it is too short for a file of tensors");
  uint64_t length = 0;
  for (size_t n = kLengthBytes; n-- > 0;) length = length << 8 | static_cast<unsigned char>(file[n]);
  if (length > kMostHeaderBytes || length > file.size() - kLengthBytes) fail("its header ends after its file");
  const std::string_view text = file.substr(kLengthBytes, length), data = file.substr(kLengthBytes + length);
  const Json header = parse_json(text);
  if (!header.is_object()) fail("its header is no object");
  SafeTensors result;
  std::map<uint64_t, uint64_t> spans;
  for (const auto& item : header.items()) {
    if (item.key() == kMetadata) {
      read_metadata(item.value(), result);
      continue;
    }
    Placed placed = read_tensor(item.value());
    if (placed.end > data.size()) fail("a tensor ends after the file");
    if (placed.start < placed.end && !spans.emplace(placed.start, placed.end).second) fail("its tensors overlap");
    placed.tensor.bytes = data.substr(placed.start, placed.end - placed.start);
    result.tensors.emplace(item.key(), std::move(placed.tensor));
  }
  uint64_t end = 0;
  for (const auto& [start, next] : spans) {
    if (start != end) fail("its tensors overlap, or do not lie side by side");
    end = next;
  }
  if (end != data.size()) fail("it holds bytes that belong to no tensor");
  return result;
}

std::string safetensors_header(const std::string& name, const SafeTensor& tensor,
                               const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;  // sorted metadata, and the keys of a tensor as the library writes them
  header[kMetadata] = metadata;
  header[name]["dtype"] = tensor.type;
  header[name]["shape"] = tensor.shape;
  header[name]["data_offsets"] = {uint64_t{0}, static_cast<uint64_t>(tensor.bytes.size())};
  std::string text = header.dump();
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');  // tensors stay aligned
  std::string length;
  for (uint64_t rest = text.size(); length.size() < kLengthBytes; rest >>= 8) length += static_cast<char>(rest & 255);
  return length + text;
}

}  // namespace rubricrm
