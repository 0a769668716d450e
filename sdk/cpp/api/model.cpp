// Section 7 of rubricrm.h.
#include <algorithm>
#include <memory>
#include <utility>

#include "api/errors.h"
#include "api/inputs.h"
#include "api/model_handles.h"

namespace rubricrm {
namespace {

template <typename Number, typename Given>
void set_unless_zero(Number& option, Given given) {
  if (given != 0) option = static_cast<Number>(given);
}

ModelOptions model_options(const rubricrm_model_options& given) {
  check_reserved(given.reserved, "options");
  ModelOptions options;
  options.verify = is_on(given.verify, "verify", false);
  options.session.device = option_text(given.device, "device");
  options.session.threads = static_cast<int>(std::min<uint32_t>(given.threads, INT32_MAX));
  options.session.onnxruntime = option_text(given.onnxruntime, "onnxruntime");
  options.session.kernels = option_text(given.kernels, "kernels");
  options.session.cache = CacheDirectory(option_text(given.cache_directory, "cache_directory"));
  set_unless_zero(options.engine.max_concurrency, given.max_concurrency);
  set_unless_zero(options.engine.max_waiting, given.max_waiting);
  const uint64_t max_memory = std::min<uint64_t>(given.max_memory, INT64_MAX);
  if (max_memory != 0) options.engine.max_memory = static_cast<int64_t>(max_memory);
  options.engine.keep_prompts = is_on(given.keep_prompts, "keep_prompts", true);
  options.draft = is_on(given.draft, "draft", true);
  options.save_phrases = is_on(given.save_phrases, "save_phrases", false);
  options.phrases_file = option_text(given.phrases_file, "phrases_file");
  if (const auto call = given.on_warning) {
    options.session.warn = [call, user = given.warning_user](const std::string& text) { call(text.c_str(), user); };
  }
  return options;
}

// Waits for an answer, and gives its result.
void finish(OpenRequest& request, const rubricrm_result*& made) {
  request.wait();
  made = request.result().release();
}

}  // namespace

GenerationOptions generation_options(const rubricrm_generation_options* pointer) {
  const rubricrm_generation_options given = read_options(pointer, "options");
  GenerationOptions options;
  if (given.max_new_tokens != 0) options.max_new_tokens = given.max_new_tokens;
  options.temperature = given.temperature;
  options.top_k = given.top_k;
  set_unless_zero(options.top_p, given.top_p);
  options.min_p = given.min_p;
  if (given.timeout_s != 0) options.timeout_s = given.timeout_s;
  if (is_on(given.has_seed, "has_seed", false)) options.seed = given.seed;
  options.priority = given.priority;
  if (is_on(given.logprobs, "logprobs", false)) options.logprobs = given.num_top_logprobs;
  options.stop_on_repetition = is_on(given.stop_on_repetition, "stop_on_repetition", true);
  options.constrain = is_on(given.constrain, "constrain", true);
  options.stop = option_texts(given.stop, given.num_stop, "stop");
  options.check();
  return options;
}

std::shared_ptr<OpenModel> model_of(rubricrm_model* model) {
  std::shared_ptr<OpenModel> open = required(model, "model").model;
  open->check_here();
  return open;
}

}  // namespace rubricrm

using namespace rubricrm;

extern "C" {

rubricrm_code rubricrm_model_open(const char* path, const rubricrm_model_options* options, rubricrm_model** model,
                                  rubricrm_error* error) {
  return guarded(error, [&] {
    rubricrm_model*& made = output(model, "model");
    const ModelOptions how = model_options(read_options(options, "options"));
    auto handle = std::make_unique<rubricrm_model>();
    handle->model = std::make_shared<OpenModel>(&required(path, "path"), how);
    handle->prompt.texts = handle->model->texts();
    handle->prompt.is_owned = false;
    made = handle.release();
  });
}

rubricrm_code rubricrm_model_close(rubricrm_model* model, rubricrm_error* error) {
  return guarded(error, [&] { model_of(model)->close(); });
}

void rubricrm_model_free(rubricrm_model* model) {
  // In a fork, locks may be held by threads that do not exist there: its memory is left alone.
  if (model == nullptr || !model->model->is_here()) return;
  rubricrm_model_close(model, nullptr);
  delete model;
}

const rubricrm_facts* rubricrm_model_facts(const rubricrm_model* model) {
  return model == nullptr ? nullptr : &model->model->texts()->facts();
}

const rubricrm_prompt* rubricrm_model_prompt(const rubricrm_model* model) {
  return model == nullptr ? nullptr : &model->prompt;
}

rubricrm_code rubricrm_generate(rubricrm_model* model, const char* request, size_t size,
                                const rubricrm_generation_options* options, const rubricrm_result** result,
                                rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_result*& made = output(result, "result");
    const auto open = model_of(model);
    const FieldValues values = request_values(request, size);
    finish(*OpenRequest::fields(open, nullptr, values, generation_options(options)), made);
  });
}

rubricrm_code rubricrm_stream(rubricrm_model* model, const char* request, size_t size,
                              const rubricrm_generation_options* options, rubricrm_event_callback callback, void* user,
                              const rubricrm_result** result, rubricrm_error* error) {
  if (result != nullptr) *result = nullptr;
  return guarded(error, [&] {
    const auto open = model_of(model);
    const FieldValues values = request_values(request, size);
    const auto running = OpenRequest::fields(open, nullptr, values, generation_options(options));
    running->stream(callback, user);
    if (result != nullptr) *result = running->result().release();
  });
}

rubricrm_code rubricrm_generate_fields(rubricrm_model* model, const char* name, const rubricrm_field* fields,
                                       size_t num_fields, const rubricrm_generation_options* options,
                                       const rubricrm_result** result, rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_result*& made = output(result, "result");
    const auto open = model_of(model);
    const FieldValues values = values_of(fields, num_fields);
    finish(*OpenRequest::fields(open, name, values, generation_options(options)), made);
  });
}

rubricrm_code rubricrm_generate_messages(rubricrm_model* model, const rubricrm_message* messages, size_t num_messages,
                                         const rubricrm_generation_options* options, const rubricrm_result** result,
                                         rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_result*& made = output(result, "result");
    const auto open = model_of(model);
    const std::vector<Message> given = messages_of(messages, num_messages);
    finish(*OpenRequest::messages(open, given, generation_options(options)), made);
  });
}

}  // extern "C"
