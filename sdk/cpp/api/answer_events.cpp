#include "api/answer_events.h"

#include <iterator>
#include <utility>

#include "api/errors.h"

namespace rubricrm {
namespace {

// Two events in a row as one.
StreamEvent joined(StreamEvent first, StreamEvent second) {
  if (second.takes_back) first.criteria.clear();
  std::move(second.criteria.begin(), second.criteria.end(), std::back_inserter(first.criteria));
  first.text += second.text;
  first.takes_back = first.takes_back || second.takes_back;
  return first;
}

}  // namespace

void AnswerEvents::feed(std::string_view piece) {
  text_ += piece;
  show(has_rubric_ ? stream_.feed(piece) : StreamEvent{std::string(piece), {}, false});
}

void AnswerEvents::finish(std::string_view piece, bool truncated) {
  text_ += piece;
  if (!has_rubric_) return show({std::string(piece), {}, false});
  StreamEvent last = stream_.feed(piece);
  show(joined(std::move(last), stream_.finish(truncated)));
  rubric_ = std::make_unique<const RubricView>(stream_.rubric(), false);
}

void AnswerEvents::show(StreamEvent event) {
  event_ = std::move(event);
  criteria_ = rubricrm::show(event_.criteria);
  shown_ = {view_of(event_.text), criteria_.data(), criteria_.size(), event_.takes_back ? 1 : 0};
}

}  // namespace rubricrm
