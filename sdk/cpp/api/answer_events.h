// Events of one answer as the C API shows them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/rubric_view.h"
#include "generation/rubric_stream.h"
#include "rubricrm.h"

namespace rubricrm {

// Makes an event of each piece of text. One thread at a time may use it.
class AnswerEvents {
 public:
  // has_rubric: whether criteria are read.
  AnswerEvents(bool has_rubric, bool starts_in_thought) : has_rubric_(has_rubric), stream_(starts_in_thought) {}

  void feed(std::string_view piece);
  // The last event: a last piece, maybe empty, and what the end completes. truncated: it ended with another reason than
  // STOP.
  void finish(std::string_view piece, bool truncated);

  // The event of the last call; valid until the next one.
  const rubricrm_event& shown() const { return shown_; }
  bool is_empty() const { return event_.text.empty() && event_.criteria.empty() && !event_.takes_back; }
  const std::string& text() const { return text_; }
  // Of the whole text, after finish(); null before, and where criteria are not read.
  const rubricrm_rubric* rubric() const { return rubric_.get(); }

 private:
  void show(StreamEvent event);

  const bool has_rubric_;
  RubricStream stream_;
  StreamEvent event_;
  std::vector<rubricrm_criterion> criteria_;
  rubricrm_event shown_{};
  std::string text_;
  std::unique_ptr<const RubricView> rubric_;
};

}  // namespace rubricrm
