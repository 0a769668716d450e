// Reads a rubric while it is generated.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rubric/parser.h"
#include "rubric/rubric.h"
#include "rubric/utf8.h"

namespace rubricrm {

// A criterion is given out as soon as the line that ends with its tag is complete, or the next item starts; a title
// with a tag waits for the line after it. Nothing that follows changes a criterion, but one thing takes all of them
// back: the closing tag of a thought that nothing opened, which says that everything before it was thought. All
// criteria given out, in order and without the first `num_taken_back`, are those of `parse` on the whole text, wherever
// the pieces were cut, inside a character too. The cost is linear in the length of the text.
class RubricReader {
 public:
  struct Last {
    std::vector<Criterion> criteria;  // those not given out yet
    Rubric rubric;                    // of the whole text
  };

  // Whether the prompt ended with the opening tag of a thought, so that the text starts inside it.
  explicit RubricReader(bool starts_in_thought = false) : parser_(starts_in_thought) {}

  // Takes the next piece of text, UTF-8 as `parse` reads it; returns the criteria that it closed. Throws
  // REQUEST_INVALID where the text has 2 GiB or more.
  std::vector<Criterion> feed(std::string_view piece);
  // Ends the text; nothing may be fed after that. `truncated`: the generator was cut.
  Last finish(bool truncated = false);
  // How many of the criteria given out so far turned out to be thought.
  size_t num_taken_back() const { return num_taken_back_; }

 private:
  void read_lines(bool is_over);
  std::vector<Criterion> take_new();

  rubric::RubricParser parser_;
  rubric::Utf8Decoder decoder_;
  std::u32string line_;   // not complete yet
  size_t looked_at_ = 0;  // of it: no line ends before
  size_t num_bytes_ = 0;
  size_t num_given_ = 0;
  size_t num_restarts_ = 0;
  size_t num_taken_back_ = 0;
};

}  // namespace rubricrm
