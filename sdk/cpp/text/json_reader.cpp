#include "text/json_reader.h"

#include <charconv>
#include <cstring>

#include "text/utf8.h"

namespace rubricrm {
namespace {

// Deeper documents are refused: each level takes some of the stack.
constexpr int kMaxDepth = 500;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

JsonReader::JsonReader(std::string_view document)
    : begin_(document.data()), at_(begin_), end_(begin_ + document.size()) {
  if (document.substr(0, 3) == "\xEF\xBB\xBF") at_ += 3;
}

void JsonReader::fail(const std::string& expected) const {
  throw JsonError("at byte " + std::to_string(at_ - begin_) + (at_ == end_ ? " it ends, " : " something else, ") +
                  "expected " + expected);
}

void JsonReader::skip_space() {
  while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
}

bool JsonReader::accept(char token) {
  skip_space();
  if (at_ == end_ || *at_ != token) return false;
  ++at_;
  return true;
}

void JsonReader::expect(char token) {
  if (!accept(token)) fail(std::string(1, token));
}

char JsonReader::peek() {
  skip_space();
  if (at_ == end_) fail("a value");
  if (*at_ == '-' || is_digit(*at_)) return '0';
  if (std::strchr("{[\"tfn", *at_) == nullptr || *at_ == '\0') fail("a value");
  return *at_;
}

std::string_view JsonReader::read_string() {
  expect('"');
  const char* const start = at_;
  unsigned char seen = 0;
  while (at_ != end_ && *at_ != '"' && *at_ != '\\') {
    const auto byte = static_cast<unsigned char>(*at_);
    if (byte < 0x20) fail("an escape for a control character");
    seen |= byte;
    ++at_;
  }
  if (at_ == end_) fail("the end of a string");
  const std::string_view plain(start, static_cast<size_t>(at_ - start));
  if (seen >= 0x80) {
    if (const size_t invalid = find_invalid_utf8(plain); invalid != std::string_view::npos) {
      at_ = start + invalid;
      fail("UTF-8");
    }
  }
  if (*at_ == '\\') return unescape(plain);
  ++at_;
  return plain;
}

std::string_view JsonReader::unescape(std::string_view before) {
  std::string& text = unescaped_.emplace_back(before);
  while (true) {
    if (at_ == end_) fail("the end of a string");
    if (*at_ == '"') break;
    if (*at_ == '\\') {
      ++at_;
      read_escape(text);
      continue;
    }
    if (static_cast<unsigned char>(*at_) < 0x20) fail("an escape for a control character");
    const Utf8Start start = utf8_start({at_, static_cast<size_t>(end_ - at_)});
    if (start.kind != Utf8Start::WHOLE) fail("UTF-8");
    text.append(at_, static_cast<size_t>(start.length));
    at_ += start.length;
  }
  ++at_;
  return text;
}

void JsonReader::read_escape(std::string& text) {
  static constexpr char kEscapes[] = "\"\\/bfnrt", kMeanings[] = "\"\\/\b\f\n\r\t";
  if (at_ == end_) fail("an escape");
  if (*at_ != 'u') {
    const char* const escape = std::strchr(kEscapes, *at_);
    if (escape == nullptr || *at_ == '\0') fail("an escape");
    text.push_back(kMeanings[escape - kEscapes]);
    ++at_;
    return;
  }
  ++at_;
  uint32_t character = read_hex4();
  if (character >= 0xD800 && character < 0xDC00 && end_ - at_ >= 2 && at_[0] == '\\' && at_[1] == 'u') {
    at_ += 2;
    const uint32_t low = read_hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("the second half of a surrogate pair before it");
    character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
  }
  if (character >= 0xD800 && character < 0xE000) fail("the other half of a surrogate pair");
  append_character(text, character);
}

uint32_t JsonReader::read_hex4() {
  uint32_t value = 0;
  if (end_ - at_ < 4) fail("four hexadecimal digits");
  const auto [stop, error] = std::from_chars(at_, at_ + 4, value, 16);
  if (error != std::errc() || stop != at_ + 4) fail("four hexadecimal digits");
  at_ += 4;
  return value;
}

std::optional<int64_t> JsonReader::read_integer() {
  const std::string_view number = skip();
  int64_t value = 0;
  const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || stop != number.data() + number.size()) return std::nullopt;
  return value;
}

std::string_view JsonReader::skip() {
  skip_space();
  const char* const start = at_;
  skip_value(0);
  return {start, static_cast<size_t>(at_ - start)};
}

void JsonReader::skip_value(int depth) {
  if (depth == kMaxDepth) fail("fewer than " + std::to_string(kMaxDepth) + " levels");
  const auto skip_literal = [this](std::string_view literal) {
    if (std::string_view(at_, static_cast<size_t>(end_ - at_)).substr(0, literal.size()) != literal) fail("a value");
    at_ += literal.size();
  };
  switch (peek()) {
    case '{':
      return read_object([&](std::string_view) { skip_value(depth + 1); });
    case '[':
      return read_array([&] { skip_value(depth + 1); });
    case '"':
      return static_cast<void>(read_string());
    case 't':
      return skip_literal("true");
    case 'f':
      return skip_literal("false");
    case 'n':
      return skip_literal("null");
    default:
      return skip_number();
  }
}

void JsonReader::skip_number() {
  const auto at = [this](char c) { return at_ != end_ && *at_ == c; };
  if (at('-')) ++at_;
  if (at('0')) {
    ++at_;
  } else {
    skip_digits();
  }
  if (at('.')) {
    ++at_;
    skip_digits();
  }
  if (at('e') || at('E')) {
    ++at_;
    if (at('+') || at('-')) ++at_;
    skip_digits();
  }
}

void JsonReader::skip_digits() {
  if (at_ == end_ || !is_digit(*at_)) fail("a digit");
  while (at_ != end_ && is_digit(*at_)) ++at_;
}

void JsonReader::finish() {
  skip_space();
  if (at_ != end_) fail("the end of the document");
}

}  // namespace rubricrm
