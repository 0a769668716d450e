// Reads a JSON document from its beginning to its end, value by value, without a tree of it: a tokenizer's vocabulary
// is 11 MB.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace rubricrm {

// The document is no JSON; what() says what and at which byte. Numbers and literals are those of RFC 8259, text is
// UTF-8.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Views that it returns point into the document or into memory of the reader, and last as long as both. All functions
// throw JsonError.
class JsonReader {
 public:
  // A byte-order mark before the document is skipped.
  explicit JsonReader(std::string_view document);

  // What the next value is: one of { [ " t f n and 0 for a number.
  char peek();

  // Calls `read_value(key)` for each member of an object; it must read the value.
  template <typename ReadValue>
  void read_object(ReadValue read_value) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string_view key = read_string();
      expect(':');
      read_value(key);
    } while (accept(','));
    expect('}');
  }

  // Calls `read_item()` for each item of an array; it must read the item.
  template <typename ReadItem>
  void read_array(ReadItem read_item) {
    expect('[');
    if (accept(']')) return;
    do {
      read_item();
    } while (accept(','));
    expect(']');
  }

  // A string without its escapes. A surrogate without its other half is an error.
  std::string_view read_string();

  // A number that is written as an integer and lies in the type's range. Any other value is read too, and gives none.
  std::optional<int64_t> read_integer();

  // Reads any value, checks it, and returns its text.
  std::string_view skip();

  // Refuses anything after the document's value.
  void finish();

 private:
  [[noreturn]] void fail(const std::string& expected) const;
  void skip_space();
  bool accept(char token);
  void expect(char token);
  void skip_value(int depth);
  void skip_number();
  void skip_digits();
  std::string_view unescape(std::string_view before);
  void read_escape(std::string& text);
  uint32_t read_hex4();

  const char* const begin_;
  const char* at_;
  const char* const end_;
  std::deque<std::string> unescaped_;
};

}  // namespace rubricrm
