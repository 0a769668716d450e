#include "runtime/graph_tensors.h"

#include <charconv>
#include <functional>
#include <map>
#include <optional>
#include <string_view>

#include "error.h"
#include "runtime/mapped_file.h"

namespace rubricrm {
namespace {

// Fields of onnx.proto.
constexpr uint64_t kGraph = 7, kInitializer = 5, kDims = 1, kType = 2, kName = 8, kExternal = 13, kLocation = 14;
constexpr uint64_t kKey = 1, kValue = 2, kIsExternal = 1;
constexpr int64_t kMostBytes = int64_t{1} << 50;

// Bytes per element; 0: of less than a byte, or of no size.
int64_t size_of_element(int64_t type) {
  constexpr int64_t sizes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0, 0, 2, 1, 1, 1, 1};
  return type >= 0 && type < static_cast<int64_t>(std::size(sizes)) ? sizes[type] : 0;
}

// What is wrong with a file; the caller names it.
struct NoGraph : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A protobuf message (https://protobuf.dev/programming-guides/encoding), field by field.
class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  struct Field {
    uint64_t number;
    std::optional<uint64_t> value;  // none: it has a length
    std::string_view bytes;
  };

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const uint64_t tag = varint(), kind = tag & 7;
    if (kind == 0) return Field{tag >> 3, varint(), {}};
    if (kind != 1 && kind != 2 && kind != 5) throw NoGraph("a field has the wire type " + std::to_string(kind));
    const uint64_t size = kind == 1 ? 8 : kind == 5 ? 4 : varint();
    if (size > rest_.size()) throw NoGraph("a field of " + std::to_string(size) + " bytes ends after its message");
    const Field field{tag >> 3, std::nullopt, rest_.substr(0, size)};
    rest_.remove_prefix(size);
    return field;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) throw NoGraph("a number ends after its message");
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      if (shift < 64) value |= uint64_t{byte & 127u} << shift;
      if (byte < 128) return value;
    }
    throw NoGraph("a number is too long");
  }

  bool is_over() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

using Entries = std::map<std::string, std::string>;

void read_entry(std::string_view bytes, Entries& entries) {
  Message message(bytes);
  std::string key, value;
  while (const auto field = message.next()) {
    if (field->value) continue;
    if (field->number == kKey) key = field->bytes;
    if (field->number == kValue) value = field->bytes;
  }
  entries[key] = value;
}

int64_t number_of(const Entries& entries, const char* key, int64_t otherwise) {
  const auto found = entries.find(key);
  if (found == entries.end()) return otherwise;
  const std::string& text = found->second;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) throw NoGraph("'" + text + "' is no number");
  return number;
}

// Adds where the bytes of a tensor lie, with the length that its type and shape give.
void place(GraphTensor& tensor, const Entries& entries) {
  int64_t num_bytes = size_of_element(tensor.element_type);
  bool is_sound = true;
  for (const int64_t size : tensor.shape) {
    is_sound = is_sound && size >= 0 && !__builtin_mul_overflow(num_bytes, size, &num_bytes);
  }
  tensor.num_bytes = num_bytes;
  tensor.offset = number_of(entries, "offset", 0);
  const auto location = entries.find("location");
  if (location != entries.end()) tensor.location = location->second;
  is_sound = is_sound && !tensor.location.empty() && 0 < num_bytes && num_bytes <= kMostBytes &&
             number_of(entries, "length", num_bytes) == num_bytes && 0 <= tensor.offset && tensor.offset <= kMostBytes;
  if (!is_sound) {
    throw NoGraph(tensor.name + " has another length than its type and shape say, or lies in no named file");
  }
}

std::optional<GraphTensor> read_external(std::string_view bytes) {
  GraphTensor tensor;
  Entries entries;
  bool is_external = false;
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == kDims && field->value) {
      tensor.shape.push_back(static_cast<int64_t>(*field->value));
    } else if (field->number == kDims) {
      for (Message packed(field->bytes); !packed.is_over();) {
        tensor.shape.push_back(static_cast<int64_t>(packed.varint()));
      }
    } else if (field->number == kType && field->value) {
      tensor.element_type = static_cast<int64_t>(*field->value);
    } else if (field->number == kLocation) {
      is_external = field->value == kIsExternal;
    } else if (field->number == kName && !field->value) {
      tensor.name = field->bytes;
    } else if (field->number == kExternal && !field->value) {
      read_entry(field->bytes, entries);
    }
  }
  if (!is_external) return std::nullopt;
  place(tensor, entries);
  return tensor;
}

// Calls for the bytes of each field of a number.
void each(std::string_view bytes, uint64_t number, const std::function<void(std::string_view)>& take) {
  Message message(bytes);
  while (const auto field = message.next()) {
    if (field->number == number && !field->value) take(field->bytes);
  }
}

}  // namespace

std::vector<GraphTensor> external_tensors(const fs::path& path) {
  std::vector<GraphTensor> tensors;
  try {
    const MappedFile file(path);
    each(file.bytes(), kGraph, [&](std::string_view graph) {
      each(graph, kInitializer, [&](std::string_view initializer) {
        if (auto tensor = read_external(initializer)) tensors.push_back(std::move(*tensor));
      });
    });
  } catch (const FileError& error) {
    throw Error(Code::BUNDLE_INVALID, std::string(error.what()) + ". Copy or export the bundle again.");
  } catch (const NoGraph& error) {
    throw Error(Code::BUNDLE_INVALID,
                path.string() + ": is not an ONNX graph (" + error.what() + "). Copy or export the bundle again.");
  }
  return tensors;
}

}  // namespace rubricrm
