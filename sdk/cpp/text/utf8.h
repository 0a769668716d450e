// UTF-8: what is a character, where text is none, and whole characters of bytes that arrive in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rubricrm {

// What stands at the beginning of some bytes.
struct Utf8Start {
  enum Kind {
    WHOLE,       // a character of `length` bytes
    BROKEN,      // `length` bytes that begin no character whatever follows, the longest such run that begins one
    UNFINISHED,  // all the bytes: they begin a character
  } kind;
  int length;  // 1 to 4
};

// `bytes` is not empty. Overlong forms, surrogates and what lies beyond U+10FFFF are broken.
Utf8Start utf8_start(std::string_view bytes);

// Where the first byte stands that belongs to no whole character; npos: the text is UTF-8.
size_t find_invalid_utf8(std::string_view text);

// What stands at that place, for a message: "the lone surrogate U+D800 at character 3" where three bytes spell one,
// else "the byte 0xFF at character 3". Characters count from 0.
std::string describe_invalid_utf8(std::string_view text, size_t at);

// The number of characters of valid UTF-8.
size_t count_characters(std::string_view text);

// Decodes the character that begins at `at`, and steps over it. Only for valid UTF-8 with a character left.
inline char32_t next_character(const char*& at) {
  const auto* byte = reinterpret_cast<const unsigned char*>(at);
  if (byte[0] < 0x80) return static_cast<unsigned char>(*at++);
  if (byte[0] < 0xE0) {
    at += 2;
    return (byte[0] & 0x1Fu) << 6 | (byte[1] & 0x3Fu);
  }
  if (byte[0] < 0xF0) {
    at += 3;
    return (byte[0] & 0x0Fu) << 12 | (byte[1] & 0x3Fu) << 6 | (byte[2] & 0x3Fu);
  }
  at += 4;
  return (byte[0] & 0x07u) << 18 | (byte[1] & 0x3Fu) << 12 | (byte[2] & 0x3Fu) << 6 | (byte[3] & 0x3Fu);
}

// Appends a character, which is no surrogate.
void append_character(std::string& text, char32_t character);

// Makes text of bytes that arrive in pieces, as Python's incremental decoder does with errors="replace": bytes that
// begin a character wait for its rest; a run of broken bytes, as utf8_start finds it, becomes one U+FFFD. The first two
// bytes of a surrogate wait for the third, although nothing can make them whole.
class Utf8Stream {
 public:
  // The text that these bytes complete; often none.
  std::string push(std::string_view bytes);
  // What waits, as U+FFFD: once for a character that never became whole. The stream then begins afresh.
  std::string finish();

 private:
  std::string take(bool is_end);

  std::string held_;  // the beginning of a character
};

}  // namespace rubricrm
