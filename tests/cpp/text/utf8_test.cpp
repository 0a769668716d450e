// UTF-8: every code point, every beginning of bytes, and streams in any pieces.
#include "text/utf8.h"

#include "expect.h"

namespace {

using namespace rubricrm;

void test_every_character_is_written_and_read() {
  for (char32_t character = 0; character < 0x110000; ++character) {
    if (character >= 0xD800 && character < 0xE000) continue;
    std::string text;
    append_character(text, character);
    const Utf8Start start = utf8_start(text);
    const char* at = text.data();
    EXPECT(start.kind == Utf8Start::WHOLE && start.length == static_cast<int>(text.size()), "U+%04X", character);
    EXPECT(next_character(at) == character && at == text.data() + text.size(), "U+%04X", character);
    for (size_t length = 1; length < text.size(); ++length) {
      const Utf8Start part = utf8_start(std::string_view(text).substr(0, length));
      EXPECT(part.kind == Utf8Start::UNFINISHED, "U+%04X cut at %zu", character, length);
    }
  }
}

// Among all sequences of two and of three bytes as many are whole as there are characters of that length.
void test_nothing_else_is_a_character() {
  int two = 0, three = 0;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      std::string text = {static_cast<char>(first), static_cast<char>(second), '\x80'};
      const Utf8Start start = utf8_start(text);
      two += start.kind == Utf8Start::WHOLE && start.length == 2;
      three += start.kind == Utf8Start::WHOLE && start.length == 3;
    }
  }
  EXPECT(two == 0x800 - 0x80, "%d", two);
  EXPECT(three == (0x10000 - 0x800 - 0x800) / 64, "%d", three);
  for (const char* text : {"\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC0\x80", "\xC1\xBF"}) {
    EXPECT(utf8_start(text).kind == Utf8Start::BROKEN && utf8_start(text).length == 1, "%02x", text[0] & 255);
  }
}

void test_the_first_invalid_byte_is_found() {
  const std::string valid = "The response \u00e9\u4e2d\U0001f642 names it, and more than eight bytes of ASCII follow.";
  EXPECT(find_invalid_utf8(valid) == std::string::npos, "valid");
  for (size_t at = 0; at <= valid.size(); ++at) {
    std::string broken = valid;
    broken.insert(at, 1, '\xFF');
    // A character that is cut in two is invalid where it begins.
    const size_t begin = find_invalid_utf8(broken);
    EXPECT(begin <= at && at - begin < 4 && find_invalid_utf8(broken.substr(0, begin)) == std::string::npos, "%zu", at);
  }
  EXPECT(find_invalid_utf8("") == std::string::npos, "empty");
  EXPECT(describe_invalid_utf8("\u00e9\xED\xBF\xBF", 2) == "the lone surrogate U+DFFF at character 1", "surrogate");
  EXPECT(describe_invalid_utf8("a\xED\xBF", 1) == "the byte 0xED at character 1", "cut surrogate");
}

// Whatever the pieces, the text is the same; and what was valid comes back.
void test_streams_do_not_depend_on_their_pieces() {
  Numbers numbers(3);
  const std::string parts[] = {"a",        "\u00e9",   "\u20ac", "\U0001f642", "\xED\xA0\x80",
                               "\xE2\x82", "\xF0\x9F", "\x80",   "\xFF"};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int count = numbers.integer(0, 8); count > 0; --count) bytes += parts[numbers.integer(0, 8)];
    Utf8Stream whole, split;
    std::string expected = whole.push(bytes), found;
    expected += whole.finish();
    for (size_t at = 0; at < bytes.size();) {
      const auto length = static_cast<size_t>(numbers.integer(0, 3));
      const std::string piece = split.push(std::string_view(bytes).substr(at, length));
      EXPECT(find_invalid_utf8(piece) == std::string::npos, "a piece is no text");
      found += piece;
      at += length;
    }
    found += split.finish();
    EXPECT(found == expected, "round %d", round);
    EXPECT((find_invalid_utf8(bytes) == std::string::npos) == (found == bytes), "round %d", round);
    EXPECT(split.finish().empty() && split.push("x") == "x", "a stream begins afresh");
  }
}

}  // namespace

int main() {
  test_every_character_is_written_and_read();
  test_nothing_else_is_a_character();
  test_the_first_invalid_byte_is_found();
  test_streams_do_not_depend_on_their_pieces();
  return failures != 0;
}
