#include "rubric/rubric_reader.h"

#include <algorithm>

#include "error.h"

namespace rubricrm {
namespace {

// Positions in a line are numbers of 32 bits, of which patterns keep one aside.
constexpr size_t kMostBytes = INT32_MAX;

}  // namespace

std::vector<Criterion> RubricReader::feed(std::string_view piece) {
  num_bytes_ += piece.size();
  if (num_bytes_ > kMostBytes) {
    throw Error(Code::REQUEST_INVALID, "the text has " + std::to_string(num_bytes_) +
                                           " bytes or more, expected fewer than 2 GiB. Read less of it.");
  }
  line_ += decoder_.feed(piece);
  read_lines(false);
  return take_new();
}

RubricReader::Last RubricReader::finish(bool truncated) {
  line_ += decoder_.finish();
  read_lines(true);
  parser_.finish(truncated);
  std::vector<Criterion> criteria = take_new();
  return {std::move(criteria), {parser_.criteria(), parser_.issues()}};
}

// Reads every complete line; the last one too where the text is over.
void RubricReader::read_lines(bool is_over) {
  size_t start = 0;
  for (; looked_at_ < line_.size(); ++looked_at_) {
    if (!rubric::is_line_break(line_[looked_at_])) continue;
    if (line_[looked_at_] == U'\r') {
      if (looked_at_ + 1 == line_.size() && !is_over) break;  // for the line feed that may follow
      if (looked_at_ + 1 < line_.size() && line_[looked_at_ + 1] == U'\n') ++looked_at_;
    }
    parser_.read_line(rubric::slice(line_, start, looked_at_ + 1));
    start = looked_at_ + 1;
  }
  if (is_over && start < line_.size()) {
    parser_.read_line(rubric::slice(line_, start));
    start = looked_at_ = line_.size();
  }
  line_.erase(0, start);
  looked_at_ -= start;
}

std::vector<Criterion> RubricReader::take_new() {
  if (parser_.num_restarts() > num_restarts_) {
    num_restarts_ = parser_.num_restarts();
    num_taken_back_ += num_given_;
    num_given_ = 0;
  }
  const std::vector<Criterion>& all = parser_.criteria();
  std::vector<Criterion> fresh(all.begin() + static_cast<std::ptrdiff_t>(num_given_), all.end());
  num_given_ = all.size();
  return fresh;
}

}  // namespace rubricrm
