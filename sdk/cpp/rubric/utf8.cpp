#include "rubric/utf8.h"

namespace rubricrm::rubric {
namespace {

constexpr char32_t kReplacement = U'\ufffd';

// What the bytes at a position start: a character of so many bytes, something that is none, or a character's beginning.
struct Read {
  char32_t character;
  size_t num_bytes;  // 0 where the text ends inside a character
};

struct Form {
  size_t num_bytes;  // of a character with such a first byte; 0 where it can be none
  unsigned char least_second;
  unsigned char most_second;
  char32_t bits;
};

Form form_of(unsigned char first) {
  if (first < 0x80) return {1, 0, 0, first};
  if (first < 0xc2) return {0, 0, 0, 0};
  if (first < 0xe0) return {2, 0x80, 0xbf, first & 0x1fu};
  if (first < 0xf0) {
    return {3, static_cast<unsigned char>(first == 0xe0 ? 0xa0 : 0x80),
            static_cast<unsigned char>(first == 0xed ? 0x9f : 0xbf), first & 0x0fu};
  }
  if (first < 0xf5) {
    return {4, static_cast<unsigned char>(first == 0xf0 ? 0x90 : 0x80),
            static_cast<unsigned char>(first == 0xf4 ? 0x8f : 0xbf), first & 0x07u};
  }
  return {0, 0, 0, 0};
}

Read read(std::string_view bytes) {
  const Form form = form_of(static_cast<unsigned char>(bytes[0]));
  if (form.num_bytes == 0) return {kReplacement, 1};
  char32_t character = form.bits;
  for (size_t i = 1; i < form.num_bytes; ++i) {
    if (i == bytes.size()) return {kReplacement, 0};
    const unsigned char byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char least = i == 1 ? form.least_second : 0x80, most = i == 1 ? form.most_second : 0xbf;
    if (byte < least || byte > most) return {kReplacement, i};
    character = character << 6 | (byte & 0x3fu);
  }
  return {character, form.num_bytes};
}

}  // namespace

std::string to_utf8(std::u32string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (const char32_t c : text) {
    if (c < 0x80) {
      bytes += static_cast<char>(c);
      continue;
    }
    const int num_more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    const unsigned lead = num_more == 1 ? 0xc0 : num_more == 2 ? 0xe0 : 0xf0;
    bytes += static_cast<char>(lead | c >> 6 * num_more);
    for (int i = num_more - 1; i >= 0; --i) bytes += static_cast<char>(0x80 | (c >> 6 * i & 0x3f));
  }
  return bytes;
}

std::u32string Utf8Decoder::feed(std::string_view bytes) {
  std::string joined;
  if (!begun_.empty()) {
    joined = begun_.append(bytes);
    begun_.clear();
    bytes = joined;
  }
  std::u32string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Read found = read(bytes);
    if (found.num_bytes == 0) {
      begun_ = bytes;
      break;
    }
    text += found.character;
    bytes.remove_prefix(found.num_bytes);
  }
  return text;
}

std::u32string Utf8Decoder::finish() {
  const bool is_cut = !begun_.empty();
  begun_.clear();
  return std::u32string(is_cut ? 1 : 0, kReplacement);
}

std::u32string from_utf8(std::string_view bytes) {
  Utf8Decoder decoder;
  std::u32string text = decoder.feed(bytes);
  return text += decoder.finish();
}

}  // namespace rubricrm::rubric
