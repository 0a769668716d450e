// Characters and texts as methods of Python's str see them. A text is a view of code points; what a function returns as
// a Text is part of its argument.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rubric/pattern.h"

namespace rubricrm::rubric {

inline bool is_ascii(char32_t character) { return character < 128; }
bool is_ascii(Text text);
bool is_space(char32_t character);
// Whether str.splitlines() ends a line there.
bool is_line_break(char32_t character);
bool is_alphanumeric(char32_t character);
bool is_lower(char32_t character);
bool is_upper(char32_t character);
bool is_digit(char32_t character);
bool is_decimal(char32_t character);
bool is_decimal(Text text);
// The number that decimal digits of any script write; at most 18 of them.
int64_t decimal_value(Text text);

// text[start:end]: empty where the start is not before the end; both may lie beyond the text's end.
Text slice(Text text, size_t start, size_t end = Text::npos);
// text[-count:]
Text last(Text text, size_t count);
bool starts_with(Text text, Text start);
bool ends_with(Text text, Text end);
bool contains(Text text, Text part);
bool contains(Text text, char32_t character);

// Without white space, or the characters given, at the start, the end or both.
Text strip_start(Text text);
Text strip_start(Text text, Text characters);
Text strip_end(Text text);
Text strip_end(Text text, Text characters);
Text strip(Text text);
Text strip(Text text, Text characters);
bool is_blank(Text text);

// str.split(): the words between white space.
std::vector<Text> split(Text text);
std::u32string join(const std::vector<Text>& words);
// How many words there are, of the first `most`.
size_t count_words(Text text, size_t most = Text::npos);

// str.lower() as far as its result is ASCII; other characters stay as they are.
std::u32string lower(Text text);
// str.casefold()
std::u32string casefold(Text text);
// Whether str.upper() and str.lower() are the same.
bool has_no_case(Text text);
// repr(), of which format(..., ".80") keeps 80 characters; lone surrogates aside, which no text here holds.
std::u32string represent(Text text);

}  // namespace rubricrm::rubric
