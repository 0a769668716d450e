// A line as a reader sees it: without the characters that nobody sees, each with its place in the text.
//
// Marks and tags are looked for in what is seen, so that no bidirectional mark, zero-width space or terminal color has
// an effect on them. A text is given out with those of the characters that do show: the joiners of emoji and of scripts
// that need them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rubric/characters.h"

namespace rubricrm::rubric {

// Where a character stands in the text: its offset, its line and its column, both from 1.
struct Place {
  size_t offset;
  size_t line;
  size_t column;
};

// A line, or several that were joined because a tag goes across their break. Indexes are those of `text`; offsets are
// those of the whole text that the line is from.
class VisibleLine {
 public:
  // `raw` are its characters as they were written, `offset` is where it starts in the whole text, `number` is from 1.
  VisibleLine(std::u32string raw, size_t offset, size_t number);
  // The line that lines, at least one, make which follow each other.
  static std::shared_ptr<const VisibleLine> joined(const std::vector<std::shared_ptr<const VisibleLine>>& lines);
  VisibleLine(const VisibleLine&) = delete;
  VisibleLine& operator=(const VisibleLine&) = delete;

  // Lives as long as the line.
  Text text() const { return is_hiding() ? Text(seen_) : Text(raw_); }
  size_t number() const { return number_; }
  Place place(size_t index) const;
  // The offset after the character before an index, which is not 0.
  size_t end_offset(size_t index) const;
  // What stands between two indexes, as it should be shown. Linear in its length.
  std::u32string shown(size_t start, size_t end) const;

 private:
  // A stretch that is seen: where it starts in what is seen, and where in the raw line.
  struct Stretch {
    size_t seen_at;
    size_t raw_at;
  };

  bool is_hiding() const { return !stretches_.empty(); }
  void hide();
  size_t raw_index(size_t index) const;
  std::u32string kept(const Match& match) const;

  std::u32string raw_;
  std::u32string seen_;
  size_t offset_;
  size_t number_;
  std::vector<size_t> rows_ = {0};  // where each of the lines that it was joined of starts in `raw_`
  std::vector<Stretch> stretches_;  // none where everything is seen as it is
};

}  // namespace rubricrm::rubric
