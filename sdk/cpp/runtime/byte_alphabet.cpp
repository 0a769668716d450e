#include "runtime/byte_alphabet.h"

#include <array>

#include "text/utf8.h"

namespace rubricrm {
namespace {

// GPT-2's alphabet: a byte that prints is its own Latin-1 character, the other 68 are U+0100 and up, in order.
constexpr char32_t kFirstOther = 0x100;

constexpr bool prints(unsigned byte) {
  return (byte >= 0x21 && byte < 0x7F) || (byte >= 0xA1 && byte < 0xAD) || byte >= 0xAE;
}

struct Others {
  std::array<uint8_t, 68> bytes{};
  constexpr Others() {
    size_t count = 0;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (!prints(byte)) bytes[count++] = static_cast<uint8_t>(byte);
    }
  }
};
constexpr Others kOthers;

}  // namespace

std::string byte_character(uint8_t byte) {
  char32_t character = byte;
  if (!prints(byte)) {
    character = kFirstOther;
    while (kOthers.bytes[character - kFirstOther] != byte) ++character;
  }
  std::string text;
  append_character(text, character);
  return text;
}

std::string bytes_of(std::string_view token) {
  std::string bytes;
  const char* const end = token.data() + token.size();
  for (const char* at = token.data(); at != end;) {
    const char32_t character = next_character(at);
    if (character < kFirstOther && prints(character)) {
      bytes.push_back(static_cast<char>(character));
    } else if (character - kFirstOther < kOthers.bytes.size()) {
      bytes.push_back(static_cast<char>(kOthers.bytes[character - kFirstOther]));
    } else {
      return std::string(token);
    }
  }
  return bytes;
}

}  // namespace rubricrm
