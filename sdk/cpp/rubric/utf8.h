// UTF-8 to code points and back: text/utf8.h for texts of char32_t.
#pragma once

#include <string>
#include <string_view>

namespace rubricrm::rubric {

std::string to_utf8(std::u32string_view text);

// Reads UTF-8 in pieces, wherever they were cut. What is no UTF-8 becomes U+FFFD, once for each longest start of a
// character, as Unicode recommends and Python's errors="replace" does; encoded surrogates are no UTF-8.
class Utf8Decoder {
 public:
  // The characters that are complete now.
  std::u32string feed(std::string_view bytes);
  // U+FFFD where the text ended inside a character.
  std::u32string finish();

 private:
  std::string begun_;  // the bytes of a character that is not complete
};

std::u32string from_utf8(std::string_view bytes);

}  // namespace rubricrm::rubric
