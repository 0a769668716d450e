// The form of a rubric, which rubric/form.py of the Python package defines: for other engines a regular expression or a
// GBNF grammar, for the parser a line.
//
//     1. The response TEXT [Hard Rule]
//     2. The response TEXT [Principle]
#pragma once

#include <optional>
#include <string>

#include "rubric/characters.h"
#include "rubric/criterion.h"

namespace rubricrm {

// More items than any published rubric has: the longest has 12.
constexpr int kMaxItems = 40;

// A regular expression that a whole rubric matches, without anchors: for a server's structured output. It is read alike
// by Python's `re`, by Rust's `regex` and by what is built on them. It holds about 1,200 characters per item, since the
// numbers are in it. Throws OPTION_INVALID where `max_items` is not from 1 to 64.
std::string form_regex(int max_items = kMaxItems);

// A grammar of llama.cpp that a whole rubric matches. Throws OPTION_INVALID where `max_items` is not from 1 to 64.
std::string form_gbnf(int max_items = kMaxItems);

}  // namespace rubricrm

namespace rubricrm::rubric {

// A line in the form: its number, where its text starts, where its tag starts and ends, and the tag's kind.
struct FormLine {
  int number;
  size_t start;
  size_t tag_start;
  size_t tag_end;
  Kind kind;
};

// Reads a line without its break; none where it is not in the form. The cost is linear in its length.
std::optional<FormLine> read_form_line(Text line);

// Throws RUBRIC_MALFORMED where `form_regex` does not match a text; the message says which line is not in the form.
void check_form(Text text, int max_items = kMaxItems);

}  // namespace rubricrm::rubric
