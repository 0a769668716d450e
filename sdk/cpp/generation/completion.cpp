#include "generation/completion.h"

namespace rubricrm {

Completion::Completion(const TokenTexts& texts, const GenerationOptions& options)
    : texts_(texts), stops_(options.stop) {
  if (options.stop_on_repetition) detector_.emplace(texts);
}

Completion::Step Completion::push(int32_t token_id) {
  const bool goes_in_circles = detector_ && detector_->push(token_id);
  Step step{stops_.push(characters_.push(texts_.text_bytes(token_id))), FinishReason::NONE};
  if (stops_.found()) {
    step.reason = FinishReason::STOP;
  } else if (goes_in_circles) {
    step.reason = FinishReason::REPETITION;
  }
  return step;
}

Completion::End Completion::finish(bool is_whole) {
  if (stops_.found()) return {"", true};
  std::string text = stops_.push(is_whole ? characters_.finish() : "");
  text += stops_.finish();
  return {std::move(text), stops_.found().has_value()};
}

}  // namespace rubricrm
