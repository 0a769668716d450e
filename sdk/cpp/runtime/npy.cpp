#include "runtime/npy.h"

#include <algorithm>
#include <stdexcept>

namespace rubricrm {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr int64_t kMostItems = int64_t{1} << 40;
constexpr size_t kMostDimensions = 32;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }

// The header's text: a dictionary as Python writes it, {'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }.
class Header {
 public:
  explicit Header(std::string_view text) : text_(text) {}

  void read(NpyFile& file) {
    bool has_type = false, has_order = false, has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && !has_type) {
        file.type = string();
        has_type = true;
      } else if (key == "fortran_order" && !has_order) {
        file.is_fortran_order = boolean();
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        file.shape = shape();
        has_shape = true;
      } else {
        fail("its header has the key '" + std::string(key) + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!text_.empty() || !has_type || !has_order || !has_shape) fail("its header is no description of an array");
  }

 private:
  void skip_space() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n' || text_[0] == '\t')) text_.remove_prefix(1);
  }

  bool accept(char c) {
    skip_space();
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  void expect(char c) {
    if (!accept(c)) fail(std::string("its header lacks '") + c + "'");
  }

  std::string_view string() {
    const char quote = accept('\'') ? '\'' : '"';
    if (quote == '"') expect('"');
    const size_t end = text_.find(quote);
    if (end == std::string_view::npos) fail("a text of its header does not end");
    const std::string_view found = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return found;
  }

  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(0, word.size()) != word) continue;
      text_.remove_prefix(word.size());
      return word == "True";
    }
    fail("the order of its axes is neither True nor False");
  }

  std::vector<int64_t> shape() {
    std::vector<int64_t> sizes;
    int64_t total = 1;
    expect('(');
    while (!accept(')')) {
      const int64_t size = number();
      if (size != 0 && total > kMostItems / size) fail("its shape is too large");
      total *= size;
      sizes.push_back(size);
      if (sizes.size() > kMostDimensions) fail("it has too many dimensions");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  int64_t number() {
    skip_space();
    int64_t value = 0;
    size_t digits = 0;
    for (; digits < text_.size() && '0' <= text_[digits] && text_[digits] <= '9'; ++digits) {
      value = value * 10 + (text_[digits] - '0');
      if (value > kMostItems) fail("its shape is too large");
    }
    if (digits == 0) fail("its shape holds what is no number");
    text_.remove_prefix(digits);
    return value;
  }

  std::string_view text_;
};

// Gives types of this machine's byte order the names that numpy gives them.
void name_type(NpyFile& file) {
  static const struct {
    const char *code, *name;
    int64_t size;
  } types[] = {{"|u1", "uint8", 1},  {"|i1", "int8", 1},  {"<u2", "uint16", 2}, {"<i2", "int16", 2},
               {"<u4", "uint32", 4}, {"<i4", "int32", 4}, {"<i8", "int64", 8},  {"<f4", "float32", 4}};
  file.item_size = 0;
  for (const auto& type : types) {
    if (file.type != type.code) continue;
    file.type = type.name;
    file.item_size = type.size;
    return;
  }
}

}  // namespace

NpyFile parse_npy(std::string_view file) {
  if (file.substr(0, kMagic.size()) != kMagic || file.size() < 10) fail("it is no array of NumPy");
  const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(file[at])); };
  const size_t version = byte(6);
  if (version < 1 || version > 3) fail("its format version is " + std::to_string(version));
  const size_t start = version == 1 ? 10 : 12;
  if (file.size() < start) fail("its header ends after its file");
  size_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > file.size() - start) fail("its header ends after its file");
  NpyFile result;
  Header(file.substr(start, length)).read(result);
  name_type(result);
  result.bytes = file.substr(start + length);
  return result;
}

}  // namespace rubricrm
