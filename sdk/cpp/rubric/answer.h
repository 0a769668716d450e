// Which part of a text is the answer: no thought, nothing after the end of the model's turn.
//
// Thoughts stand between <think> and </think> or their like. A closing tag that nothing opened ends a thought that the
// prompt opened, or whose start was cut off: everything before it is thought, and the answer starts after it. Until
// such a tag comes nobody can know, so it takes back what was read.
//
// A control token of a chat template, or a line that starts somebody else's turn, ends the answer. Before the first
// words of the answer such a token starts it.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rubric/characters.h"
#include "rubric/criterion.h"

namespace rubricrm::rubric {

// What of a line is the answer.
struct AnswerParts {
  std::vector<std::pair<size_t, size_t>> parts;  // where its parts start and end in the line
  std::vector<Issue> issues;                     // what was left out
  bool takes_back = false;                       // whether everything before these parts was thought
};

// Reads lines in order and finds the answer in them. The cost is linear.
class AnswerReader {
 public:
  // Whether the prompt opened a thought, so that the text starts inside it.
  explicit AnswerReader(bool starts_in_thought);

  // Whether all of a line that is not blank is the answer, which is quick to tell of most lines.
  bool is_all_answer(Text text, size_t number);
  // Whether a line that is an item, whatever its words, is the answer; it is then counted as its words.
  bool is_open(size_t number);
  // Finds the answer in a line of which not all is. `is_inside` says whether the line starts inside a sentence of an
  // item, whose words may be about such marks; `has_criteria` whether a criterion stands before it, so that a next turn
  // may follow.
  AnswerParts read(Text text, size_t number, bool is_inside, bool has_criteria);
  // Reports a thought that nothing closed.
  std::vector<Issue> finish();

 private:
  class Line;

  void meet_turn(Line& line, const Match& match, bool has_criteria);
  void meet(Line& line, const Match& match);
  void meet_in_thought(Line& line, const Match& match);
  void meet_opening(Line& line, const Match& match);
  void meet_closing(Line& line, const Match& match);
  void meet_control(Line& line, const Match& match);
  bool is_control_a_word(const Line& line, const Match& match) const;
  void read_rest(Line& line);
  void end(Line& line, const Match& match);
  void quote_thought(const Line& line, size_t end);
  Issue end_thought(const std::string& how_it_ends);

  std::optional<std::vector<std::u32string>> thought_;  // its first lines, for the message
  size_t thought_line_ = 0;
  size_t first_line_ = 0;
  bool has_words_ = false;
  bool is_ended_ = false;
};

}  // namespace rubricrm::rubric
