// A rubric while it is written: each criterion comes as soon as its line is complete.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rubric/rubric_reader.h"

namespace rubricrm {

// What one step brought: a piece of text, and the criteria whose lines it completed (mostly none).
struct StreamEvent {
  std::string text;
  std::vector<Criterion> criteria;
  bool takes_back = false;  // whether the criteria of all earlier events turned out to be part of a thought
};

// Makes events of the pieces of one generation. The criteria of the events, in a row from the last event on that takes
// back, are those of `rubric()` after `finish`. One thread at a time may use it.
class RubricStream {
 public:
  // Whether the prompt ended with the opening tag of a thought.
  explicit RubricStream(bool starts_in_thought = false) : reader_(starts_in_thought) {}

  // The event of the next piece; errors as RubricReader::feed.
  StreamEvent feed(std::string_view piece);
  // The last event, whose text is empty: what the end of the text completed, which may be nothing. `truncated`: the
  // generation ended with another reason than "stop". Nothing may be fed after that.
  StreamEvent finish(bool truncated);
  // The rubric of all pieces; empty before `finish`.
  const Rubric& rubric() const { return rubric_; }

 private:
  StreamEvent event(std::string_view piece, std::vector<Criterion> criteria);

  RubricReader reader_;
  Rubric rubric_;
  size_t num_taken_back_ = 0;
};

}  // namespace rubricrm
