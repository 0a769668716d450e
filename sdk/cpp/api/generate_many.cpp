// Section 8 of rubricrm.h: many requests through one model, as generation/outcome.py of the Python package.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "api/errors.h"
#include "api/inputs.h"
#include "api/model_handles.h"

namespace rubricrm {
namespace {

// Requests of one call that run. Those that still do when it goes are cancelled.
class Running {
 public:
  struct Ended {
    size_t index;
    std::shared_ptr<OpenRequest> request;
  };

  Running(std::shared_ptr<OpenModel> model, const GenerationOptions& options)
      : model_(std::move(model)), options_(options) {}
  ~Running() {
    for (const Ended& one : running_) one.request->cancel();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  size_t size() const { return running_.size(); }
  bool has_ended() const { return first_ended() != running_.end(); }

  // Errors as OpenRequest::fields.
  void begin(size_t index, const rubricrm_text& request) {
    const FieldValues values = request_values(request.data, request.size);
    running_.push_back({index, OpenRequest::fields(model_, nullptr, values, options_)});
  }

  // Computes until one has ended. There is at least one.
  Ended take() {
    while (!has_ended()) compute();
    const auto found = first_ended();
    Ended ended = *found;
    running_.erase(found);
    return ended;
  }

 private:
  std::vector<Ended>::const_iterator first_ended() const {
    return std::find_if(running_.begin(), running_.end(),
                        [](const Ended& one) { return one.request->state() == State::FINISHED; });
  }

  // One step, or the rest of the one that another thread makes.
  void compute() {
    try {
      model_->engine().step();
    } catch (const Error&) {  // it was closed: what runs ends
      guarded(nullptr, [&] { running_.front().request->wait(); });
    }
  }

  const std::shared_ptr<OpenModel> model_;
  const GenerationOptions& options_;
  std::vector<Ended> running_;  // in the order in which they began
};

// What gets outcomes.
class Receiver {
 public:
  Receiver(rubricrm_outcome_callback callback, void* user) : callback_(callback), user_(user) {}

  // Each returns whether to go on.
  bool take(const Running::Ended& ended) const {
    rubricrm_error error;
    const rubricrm_result* result = nullptr;
    const rubricrm_code code = guarded(&error, [&] { result = ended.request->result().release(); });
    const rubricrm_outcome outcome{ended.index, result, code == RUBRICRM_OK ? nullptr : &error};
    return callback_(&outcome, user_) == 0;
  }
  bool take_refused(size_t index, const rubricrm_error& error) const {
    const rubricrm_outcome outcome{index, nullptr, &error};
    return callback_(&outcome, user_) == 0;
  }

 private:
  const rubricrm_outcome_callback callback_;
  void* const user_;
};

// Begins one of the requests; returns whether to go on.
bool begin(Running& running, size_t index, const rubricrm_text& request, const Receiver& receiver) {
  rubricrm_error error;
  const auto try_it = [&] { return guarded(&error, [&] { running.begin(index, request); }); };
  rubricrm_code code = try_it();
  while (code == RUBRICRM_ENGINE_BUSY && running.size() > 0) {
    // Others fill the line: there may be room when one of these has ended.
    if (!receiver.take(running.take())) return false;
    code = try_it();
  }
  return code == RUBRICRM_OK || receiver.take_refused(index, error);
}

void generate_many(Running& running, const rubricrm_text* requests, size_t num_requests, size_t most,
                   const Receiver& receiver) {
  for (size_t index = 0; index < num_requests; ++index) {
    while (running.size() == most || running.has_ended()) {
      if (!receiver.take(running.take())) return;
    }
    if (!begin(running, index, requests[index], receiver)) return;
  }
  while (running.size() > 0) {
    if (!receiver.take(running.take())) return;
  }
}

}  // namespace
}  // namespace rubricrm

using namespace rubricrm;

extern "C" {

rubricrm_code rubricrm_generate_many(rubricrm_model* model, const rubricrm_text* requests, size_t num_requests,
                                     const rubricrm_generation_options* options, uint32_t max_concurrency,
                                     rubricrm_outcome_callback callback, void* user, rubricrm_error* error) {
  return guarded(error, [&] {
    const auto open = model_of(model);
    if (num_requests > 0) required(requests, "requests");
    if (callback == nullptr) throw Error(Code::OPTION_INVALID, "callback is NULL: nothing would get the outcomes.");
    const GenerationOptions how = generation_options(options);
    const size_t most = max_concurrency != 0 ? max_concurrency : open->texts()->facts().max_concurrency;
    Running running(open, how);
    generate_many(running, requests, num_requests, most, Receiver(callback, user));
  });
}

}  // extern "C"
