#include "text/utf8.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace rubricrm {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Whether these are the first two of the three bytes that would spell a surrogate.
bool begins_surrogate(std::string_view bytes) {
  return bytes.size() == 2 && bytes[0] == '\xED' && (static_cast<unsigned char>(bytes[1]) & 0xE0) == 0xA0;
}

bool is_ascii_word(const char* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return (word & 0x8080808080808080u) == 0;
}

}  // namespace

Utf8Start utf8_start(std::string_view bytes) {
  const auto byte = [bytes](size_t at) { return static_cast<unsigned char>(bytes[at]); };
  const unsigned first = byte(0);
  if (first < 0x80) return {Utf8Start::WHOLE, 1};
  if (first < 0xC2 || first > 0xF4) return {Utf8Start::BROKEN, 1};
  const int length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  // The second byte alone tells overlong forms, surrogates and what lies beyond the last character.
  unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (int at = 1; at < length; ++at) {
    if (static_cast<size_t>(at) == bytes.size()) return {Utf8Start::UNFINISHED, at};
    if (byte(at) < low || byte(at) > high) return {Utf8Start::BROKEN, at};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Start::WHOLE, length};
}

size_t find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (at + 8 <= text.size() && is_ascii_word(text.data() + at)) {
      at += 8;
      continue;
    }
    const Utf8Start start = utf8_start(text.substr(at));
    if (start.kind != Utf8Start::WHOLE) return at;
    at += start.length;
  }
  return std::string_view::npos;
}

std::string describe_invalid_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t offset) {
    return at + offset < text.size() ? static_cast<unsigned char>(text[at + offset]) : 0u;
  };
  char what[40];
  if (byte(0) == 0xED && byte(1) >= 0xA0 && byte(1) <= 0xBF && byte(2) >= 0x80 && byte(2) <= 0xBF) {
    std::snprintf(what, sizeof what, "the lone surrogate U+%04X", 0xD000 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F));
  } else {
    std::snprintf(what, sizeof what, "the byte 0x%02X", byte(0));
  }
  return what + (" at character " + std::to_string(count_characters(text.substr(0, at))));
}

size_t count_characters(std::string_view text) {
  size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

void append_character(std::string& text, char32_t character) {
  const auto add = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (character < 0x80) {
    add(character);
  } else if (character < 0x800) {
    add(0xC0 | character >> 6);
    add(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    add(0xE0 | character >> 12);
    add(0x80 | (character >> 6 & 0x3F));
    add(0x80 | (character & 0x3F));
  } else {
    add(0xF0 | character >> 18);
    add(0x80 | (character >> 12 & 0x3F));
    add(0x80 | (character >> 6 & 0x3F));
    add(0x80 | (character & 0x3F));
  }
}

std::string Utf8Stream::push(std::string_view bytes) {
  held_ += bytes;
  return take(false);
}

std::string Utf8Stream::finish() { return take(true); }

// The text of the bytes that wait; those that begin a character go on waiting, unless it is the end.
std::string Utf8Stream::take(bool is_end) {
  std::string text;
  std::string_view rest = held_;
  while (!rest.empty()) {
    const Utf8Start start = utf8_start(rest);
    if (!is_end && (start.kind == Utf8Start::UNFINISHED || begins_surrogate(rest))) break;
    text += start.kind == Utf8Start::WHOLE ? rest.substr(0, start.length) : kReplacement;
    rest.remove_prefix(static_cast<size_t>(start.length));
  }
  held_.erase(0, held_.size() - rest.size());
  return text;
}

}  // namespace rubricrm
