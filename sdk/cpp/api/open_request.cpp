#include <utility>

#include "api/open_model.h"
#include "error.h"
#include "rubric/rubric.h"

namespace rubricrm {

// One call that reads at a time.
class OpenRequest::Reading {
 public:
  explicit Reading(OpenRequest& request) : request_(request) {
    request.model_->check_here();
    if (request.is_reading_.exchange(true)) {
      throw Error(Code::STREAM_BUSY, "the request is being read by another call. Wait for that one, or read it there.");
    }
  }
  ~Reading() { request_.is_reading_ = false; }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  OpenRequest& request_;
};

OpenRequest::OpenRequest(std::shared_ptr<OpenModel> model, std::string request, TokenIds prompt_ids,
                         const BundleTexts::Named* named, const GenerationOptions& options, Time started)
    : model_(std::move(model)),
      request_(std::move(request)),
      is_rubric_(named != nullptr && BundleTexts::is_rubric(*named)),
      tokenized_(Clock::now()),
      sequence_(model_->submit(std::move(prompt_ids), named, options, started)),
      events_(is_rubric_, model_->texts()->manifest().chat.starts_in_thought) {}

std::shared_ptr<OpenRequest> OpenRequest::fields(std::shared_ptr<OpenModel> model, const char* name,
                                                 const FieldValues& values, const GenerationOptions& options) {
  const Time started = Clock::now();
  const BundleTexts::Named& named = model->texts()->get(name);
  TokenIds prompt_ids = named.prompt.encode(values);
  std::string request = BundleTexts::is_rubric(named) ? values.front().second : std::string();
  return std::shared_ptr<OpenRequest>(
      new OpenRequest(std::move(model), std::move(request), std::move(prompt_ids), &named, options, started));
}

std::shared_ptr<OpenRequest> OpenRequest::messages(std::shared_ptr<OpenModel> model,
                                                   const std::vector<Message>& messages,
                                                   const GenerationOptions& options) {
  const Time started = Clock::now();
  TokenIds prompt_ids = model->texts()->conversation().encode(messages);
  return std::shared_ptr<OpenRequest>(
      new OpenRequest(std::move(model), {}, std::move(prompt_ids), nullptr, options, started));
}

State OpenRequest::state() const {
  if (!model_->is_here()) return State::FINISHED;
  sequence_->end_if_due();
  return sequence_->state();
}

const rubricrm_event* OpenRequest::next(bool waits) {
  const Reading reading(*this);
  return read(waits);
}

const rubricrm_event* OpenRequest::read(bool waits) {
  if (waits) {
    model_->engine().wait(*sequence_, [this] { return sequence_->num_pieces() > num_read_; });
  } else {
    sequence_->end_if_due();
  }
  const bool is_finished = sequence_->is_finished();  // before the pieces are counted: none comes after it
  if (sequence_->num_pieces() > num_read_) {
    events_.feed(sequence_->piece(num_read_++));
    return &events_.shown();
  }
  return is_finished ? read_end() : nullptr;
}

const rubricrm_event* OpenRequest::read_end() {
  throw_error();
  if (std::exchange(is_over_, true)) return nullptr;
  events_.finish({}, sequence_->finish_reason() != FinishReason::STOP);
  return events_.is_empty() ? nullptr : &events_.shown();
}

void OpenRequest::wait() {
  const Reading reading(*this);
  model_->engine().wait(*sequence_, [] { return false; });
  throw_error();
}

void OpenRequest::stream(rubricrm_event_callback callback, void* user) {
  const Reading reading(*this);
  while (const rubricrm_event* event = read(true)) {
    if (callback == nullptr) continue;
    const bool goes_on = callback(event, user) == 0;
    if (!goes_on) sequence_->finish(FinishReason::CANCELLED);
    if (!goes_on || is_abandoned_) return;
  }
}

void OpenRequest::cancel() {
  if (model_->is_here()) sequence_->finish(FinishReason::CANCELLED);
}

void OpenRequest::abandon() {
  is_abandoned_ = true;
  cancel();
}

std::unique_ptr<ResultView> OpenRequest::result() {
  const Reading reading(*this);
  sequence_->end_if_due();
  sequence_->finish(FinishReason::CANCELLED);
  throw_error();
  TextResult text = text_result(*sequence_, tokenized_);
  const std::optional<Overrules> overrules = sequence_->outcome().overrules;
  if (!is_rubric_) return std::make_unique<ResultView>(std::move(text), overrules);
  ParseOptions how;
  how.truncated = text.finish_reason != FinishReason::STOP;
  how.starts_in_thought = model_->texts()->manifest().chat.starts_in_thought;
  RubricResult result{request_, {}, parse(text.text, how), overrules, model_->description()};
  result.text = std::move(text);
  return std::make_unique<ResultView>(std::move(result));
}

void OpenRequest::throw_error() const {
  if (const std::optional<Error> error = sequence_->error()) throw *error;
}

}  // namespace rubricrm
