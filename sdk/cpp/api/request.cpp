// Section 8 of rubricrm.h.
#include <memory>
#include <utility>

#include "api/errors.h"
#include "api/inputs.h"
#include "api/model_handles.h"

using namespace rubricrm;

namespace {

// One of the functions that submit: `start` makes the request.
template <typename Start>
rubricrm_code submit(rubricrm_model* model, const rubricrm_generation_options* options, rubricrm_request** handle,
                     rubricrm_error* error, Start start) {
  return guarded(error, [&] {
    rubricrm_request*& made = output(handle, "handle");
    auto request = std::make_unique<rubricrm_request>();
    request->request = start(model_of(model), generation_options(options));
    made = request.release();
  });
}

// Shared with the handle, which a callback may free.
std::shared_ptr<OpenRequest> request_of(rubricrm_request* handle) { return required(handle, "request").request; }

rubricrm_code read(rubricrm_request* request, bool waits, const rubricrm_event** event, rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_event*& found = output(event, "event");
    found = request_of(request)->next(waits);
  });
}

}  // namespace

extern "C" {

rubricrm_code rubricrm_submit(rubricrm_model* model, const char* request, size_t size,
                              const rubricrm_generation_options* options, rubricrm_request** handle,
                              rubricrm_error* error) {
  return submit(model, options, handle, error, [&](std::shared_ptr<OpenModel> open, const GenerationOptions& how) {
    return OpenRequest::fields(std::move(open), nullptr, request_values(request, size), how);
  });
}

rubricrm_code rubricrm_submit_fields(rubricrm_model* model, const char* name, const rubricrm_field* fields,
                                     size_t num_fields, const rubricrm_generation_options* options,
                                     rubricrm_request** handle, rubricrm_error* error) {
  return submit(model, options, handle, error, [&](std::shared_ptr<OpenModel> open, const GenerationOptions& how) {
    return OpenRequest::fields(std::move(open), name, values_of(fields, num_fields), how);
  });
}

rubricrm_code rubricrm_submit_messages(rubricrm_model* model, const rubricrm_message* messages, size_t num_messages,
                                       const rubricrm_generation_options* options, rubricrm_request** handle,
                                       rubricrm_error* error) {
  return submit(model, options, handle, error, [&](std::shared_ptr<OpenModel> open, const GenerationOptions& how) {
    return OpenRequest::messages(std::move(open), messages_of(messages, num_messages), how);
  });
}

rubricrm_code rubricrm_model_step(rubricrm_model* model, int32_t* has_work, rubricrm_error* error) {
  if (has_work != nullptr) *has_work = 0;
  return guarded(error, [&] {
    const bool found_work = model_of(model)->engine().step();
    if (has_work != nullptr) *has_work = found_work ? 1 : 0;
  });
}

rubricrm_state rubricrm_request_state(const rubricrm_request* request) {
  if (request == nullptr) return RUBRICRM_FINISHED;
  return static_cast<rubricrm_state>(
      guarded_or<State>(State::FINISHED, [&] { return request->request->state(); }));
}

rubricrm_code rubricrm_request_poll(rubricrm_request* request, const rubricrm_event** event, rubricrm_error* error) {
  return read(request, false, event, error);
}

rubricrm_code rubricrm_request_next(rubricrm_request* request, const rubricrm_event** event, rubricrm_error* error) {
  return read(request, true, event, error);
}

rubricrm_code rubricrm_request_wait(rubricrm_request* request, rubricrm_error* error) {
  return guarded(error, [&] { request_of(request)->wait(); });
}

rubricrm_code rubricrm_request_stream(rubricrm_request* request, rubricrm_event_callback callback, void* user,
                                      rubricrm_error* error) {
  return guarded(error, [&] { request_of(request)->stream(callback, user); });
}

void rubricrm_request_cancel(rubricrm_request* request) {
  if (request != nullptr) guarded(nullptr, [&] { request->request->cancel(); });
}

rubricrm_code rubricrm_request_result(rubricrm_request* request, const rubricrm_result** result,
                                      rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_result*& made = output(result, "result");
    made = request_of(request)->result().release();
  });
}

void rubricrm_request_free(rubricrm_request* request) {
  // In a fork, locks may be held by threads that do not exist there: its memory is left alone.
  if (request == nullptr || !request->request->is_here()) return;
  guarded(nullptr, [&] { request->request->abandon(); });
  delete request;
}

}  // extern "C"
