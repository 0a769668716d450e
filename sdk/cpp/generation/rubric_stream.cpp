#include "generation/rubric_stream.h"

#include <utility>

namespace rubricrm {

StreamEvent RubricStream::feed(std::string_view piece) { return event(piece, reader_.feed(piece)); }

StreamEvent RubricStream::finish(bool truncated) {
  RubricReader::Last last = reader_.finish(truncated);
  rubric_ = std::move(last.rubric);
  return event({}, std::move(last.criteria));
}

StreamEvent RubricStream::event(std::string_view piece, std::vector<Criterion> criteria) {
  const size_t num_before = std::exchange(num_taken_back_, reader_.num_taken_back());
  return {std::string(piece), std::move(criteria), num_taken_back_ > num_before};
}

}  // namespace rubricrm
