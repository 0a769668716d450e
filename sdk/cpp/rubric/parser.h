// Lines of text become criteria and issues, one line at a time.
//
// The parser never looks ahead: what a line means follows from it and the lines before, so a stream gives the same
// criteria as the whole text. One thing alone takes back what was read: a closing tag of a thought that nothing opened.
//
// A line that `form` reads, and that has the next number, is an item, whatever its words. Any other goes through the
// rooms of this folder in this order: `visible` takes away what nobody sees, `answer` finds the answer in it, `wrapper`
// takes off fences and tags around it, `joint` cuts it where several items stand on it, and `item_reader` makes
// criteria of the fragments.
#pragma once

#include <memory>
#include <vector>

#include "rubric/answer.h"
#include "rubric/criterion.h"
#include "rubric/item_reader.h"
#include "rubric/report.h"
#include "rubric/visible.h"

namespace rubricrm::rubric {

// Reads lines in order. The cost is linear.
class RubricParser {
 public:
  // Whether the prompt ended with the opening tag of a thought.
  explicit RubricParser(bool starts_in_thought);

  // The criteria so far; it grows as items close.
  const std::vector<Criterion>& criteria() const { return reading_->items.criteria(); }
  // What is not in the canonical form; complete and sorted after `finish`.
  const std::vector<Issue>& issues() const { return issues_; }
  // How often a thought's end took back all criteria so far.
  size_t num_restarts() const { return num_restarts_; }

  // Reads one physical line, with its line break.
  void read_line(Text raw);
  // Closes what is open.
  void finish(bool truncated);

 private:
  using Line = std::shared_ptr<const VisibleLine>;

  // What a thought's end takes back.
  struct Reading {
    Report report;
    ItemReader items{report};
  };

  void read_held();
  bool read_in_form(const Line& line);
  void read_other(const Line& line);
  void read_part(const Line& line, size_t start, size_t end);
  void read_pieces(const Line& line, size_t begin, size_t end, size_t indent);

  std::vector<Issue> issues_;
  size_t num_restarts_ = 0;
  AnswerReader answer_;
  std::unique_ptr<Reading> reading_ = std::make_unique<Reading>();
  Report undecodable_;
  std::vector<Line> held_;  // physical lines that end inside a tag
  size_t num_lines_ = 0;
  size_t offset_ = 0;
  bool is_after_blank_ = false;
};

}  // namespace rubricrm::rubric
