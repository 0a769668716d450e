// A line while its answer is looked for.
#pragma once

#include <string>
#include <utility>

#include "rubric/answer.h"

namespace rubricrm::rubric {

// Whether an item starts at a position: a number, or "The response".
bool starts_item(Text text, size_t start);
// Where the first word from a position on starts, or the text's end.
size_t first_word(Text text, size_t start);

// What stands before `position` is done.
class AnswerReader::Line {
 public:
  Line(Text text, size_t number, bool is_inside) : text(text), number(number), is_inside(is_inside) {}

  const Text text;
  const size_t number;
  const bool is_inside;
  AnswerParts found;

  size_t position() const { return position_; }
  void report(const char* code, std::string message) { found.issues.push_back({code, number, std::move(message)}); }
  // Takes what stands before `end` as part of the answer, and goes on from there.
  void take(size_t end);
  void go_on(size_t position);
  // Where the first word from `position` on starts.
  size_t word() const { return word_; }
  // Whether what stands from `position` on is text of an item.
  bool is_item() const { return starts_item(text, word_) || is_start_inside(); }
  // Whether `position` is the start of a line that starts inside a sentence.
  bool is_start_inside() const { return is_inside && position_ == 0; }
  bool is_quoted(const Match& match) const;
  bool is_blank_before(const Match& match) const { return word_ >= match.start(); }
  // Whether a sentence, a tag or a colon stands before a match.
  bool is_ended_before(const Match& match) const;
  bool goes_on_after(const Match& match) const;
  // Whether a tag stands after a match, and nothing else.
  bool is_tag_after(const Match& match) const;
  bool is_empty_after(const Match& match) const { return first_word(text, match.end()) == text.size(); }
  // Whether a closing tag is a word of a sentence.
  bool is_closing_a_word(const Match& match) const;

 private:
  size_t position_ = 0;
  size_t word_ = first_word(text, 0);
};

}  // namespace rubricrm::rubric
