// rubricrm.hpp: a C++17 view of rubricrm.h. Objects free themselves, errors are exceptions, texts are std::string_view.
// It is a header alone: it adds nothing to the library, and its classes never cross the library's boundary.
//
//     rubricrm::Model model("bundle");
//     rubricrm::Result result = model.generate("Write a haiku about rain.");
//     for (const auto& criterion : result.criteria()) std::cout << rubricrm::view(criterion.text) << "\n";
//
// What a class does, costs and throws stands at the C function of the same name. A class is moved, not copied; one that
// was moved from may only be destroyed or assigned to.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rubricrm.h"

namespace rubricrm {
// A namespace of its own: in a static library, classes inside the library may have the same names.
inline namespace view_1 {

// An error of the library. what() is "CODE: message".
class Failure : public std::runtime_error {
 public:
  explicit Failure(const rubricrm_error& error)
      : std::runtime_error(std::string(rubricrm_code_name(error.code)) + ": " + error.message), code_(error.code) {}
  rubricrm_code code() const { return code_; }

 private:
  rubricrm_code code_;
};

inline void check(rubricrm_code code, const rubricrm_error& error) {
  if (code != RUBRICRM_OK) throw Failure(error);
}

// A text of the library; it lives as long as what it belongs to.
inline std::string_view view(const rubricrm_text& text) { return {text.data, text.size}; }

// An array of the library, for range-based loops.
template <typename T>
class Span {
 public:
  Span(const T* data, size_t size) : data_(data), size_(size) {}
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  size_t size() const { return size_; }
  const T& operator[](size_t index) const { return data_[index]; }

 private:
  const T* data_;
  size_t size_;
};

// Options with all defaults.
template <typename Options>
Options defaults() {
  Options options{};
  options.struct_size = sizeof(Options);
  return options;
}

namespace detail {

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* handle) const {
    free(handle);
  }
};

template <typename T, auto free>
using Handle = std::unique_ptr<T, Free<free>>;

}  // namespace detail

using Fields = std::vector<std::pair<std::string, std::string>>;    // name, value
using Messages = std::vector<std::pair<std::string, std::string>>;  // role, content

namespace detail {

// A default string_view is empty, and points nowhere: NULL would be no text at all.
inline const char* data_of(std::string_view text) { return text.data() ? text.data() : ""; }

inline std::vector<rubricrm_field> as_fields(const Fields& fields) {
  std::vector<rubricrm_field> result;
  for (const auto& [name, value] : fields) result.push_back({name.c_str(), value.data(), value.size()});
  return result;
}

inline std::vector<rubricrm_message> as_messages(const Messages& messages) {
  std::vector<rubricrm_message> result;
  for (const auto& [role, content] : messages) result.push_back({role.c_str(), content.data(), content.size()});
  return result;
}

}  // namespace detail

namespace detail {

// A text that one of the library's functions makes.
template <typename Call>
std::string made_text(Call call) {
  rubricrm_error error;
  const rubricrm_text* made = nullptr;
  check(call(&made, &error), error);
  const Handle<const rubricrm_text, &rubricrm_text_free> text(made);
  return std::string(view(*text));
}

}  // namespace detail

// Of any rubric: also one inside a result or a reader.
inline std::string render(const rubricrm_rubric& rubric) {
  return detail::made_text([&](auto made, auto error) { return rubricrm_rubric_render(&rubric, made, error); });
}

inline std::vector<double> weights(const rubricrm_rubric& rubric, double hard_rule = RUBRICRM_HARD_RULE_WEIGHT,
                                   double principle = RUBRICRM_PRINCIPLE_WEIGHT) {
  rubricrm_error error;
  std::vector<double> all(rubric.num_criteria);
  check(rubricrm_rubric_weights(&rubric, hard_rule, principle, all.data(), all.size(), &error), error);
  return all;
}

// The form of a rubric for other engines. 0: the library's own limit.
inline std::string form_regex(uint32_t max_items = 0) {
  return detail::made_text([&](auto made, auto error) { return rubricrm_form_regex(max_items, made, error); });
}

inline std::string form_gbnf(uint32_t max_items = 0) {
  return detail::made_text([&](auto made, auto error) { return rubricrm_form_gbnf(max_items, made, error); });
}

// The rubric in a text.
class Rubric {
 public:
  explicit Rubric(std::string_view text, rubricrm_parse_options options = defaults<rubricrm_parse_options>()) {
    rubricrm_error error;
    const rubricrm_rubric* made = nullptr;
    check(rubricrm_parse(detail::data_of(text), text.size(), &options, &made, &error), error);
    handle_.reset(made);
  }

  Span<rubricrm_criterion> criteria() const { return {handle_->criteria, handle_->num_criteria}; }
  Span<rubricrm_issue> issues() const { return {handle_->issues, handle_->num_issues}; }
  const char* json() const { return rubricrm_rubric_json(handle_.get()); }
  const rubricrm_rubric* get() const { return handle_.get(); }

 private:
  detail::Handle<const rubricrm_rubric, &rubricrm_rubric_free> handle_;
};

// Token ids.
class Ids {
 public:
  explicit Ids(const rubricrm_ids* handle) : handle_(handle) {}
  const int32_t* data() const { return handle_->data; }
  size_t size() const { return handle_->size; }
  const int32_t* begin() const { return data(); }
  const int32_t* end() const { return data() + size(); }

 private:
  detail::Handle<const rubricrm_ids, &rubricrm_ids_free> handle_;
};

// A bundle's texts without its model.
class Prompt {
 public:
  explicit Prompt(const std::string& path, bool verify = false) {
    rubricrm_error error;
    rubricrm_prompt* made = nullptr;
    check(rubricrm_prompt_open(path.c_str(), verify ? RUBRICRM_ON : RUBRICRM_OFF, &made, &error), error);
    handle_.reset(made);
  }

  const rubricrm_facts& facts() const { return *rubricrm_prompt_facts(get()); }
  const rubricrm_prompt* get() const { return handle_.get(); }

  Ids encode_request(std::string_view request) const {
    return ids([&](auto made, auto error) {
      return rubricrm_encode_request(get(), detail::data_of(request), request.size(), made, error);
    });
  }

  Ids encode_fields(const char* name, const Fields& fields) const {
    const auto values = detail::as_fields(fields);
    return ids([&](auto made, auto error) {
      return rubricrm_encode_fields(get(), name, values.data(), values.size(), made, error);
    });
  }

  std::string render_fields(const char* name, const Fields& fields) const {
    const auto values = detail::as_fields(fields);
    return detail::made_text([&](auto made, auto error) {
      return rubricrm_render_fields(get(), name, values.data(), values.size(), made, error);
    });
  }

  Ids encode_messages(const Messages& messages) const {
    const auto values = detail::as_messages(messages);
    return ids([&](auto made, auto error) {
      return rubricrm_encode_messages(get(), values.data(), values.size(), made, error);
    });
  }

  Ids fixed_prefix() const {
    return ids([&](auto made, auto error) { return rubricrm_fixed_prefix(get(), made, error); });
  }

  Ids tokenize(std::string_view text) const {
    return ids([&](auto made, auto error) {
      return rubricrm_tokenize(get(), detail::data_of(text), text.size(), made, error);
    });
  }

  std::string detokenize(const int32_t* ids, size_t num_ids) const {
    return detail::made_text([&](auto made, auto error) {
      return rubricrm_detokenize(get(), ids, num_ids, made, error);
    });
  }

  const rubricrm_grammar* grammar(const char* name = nullptr) const { return rubricrm_prompt_grammar(get(), name); }

 private:
  template <typename Call>
  static Ids ids(Call call) {
    rubricrm_error error;
    const rubricrm_ids* made = nullptr;
    check(call(&made, &error), error);
    return Ids(made);
  }

  detail::Handle<rubricrm_prompt, &rubricrm_prompt_free> handle_;
};

// Reads an answer while some engine generates it.
class Reader {
 public:
  explicit Reader(const rubricrm_prompt* prompt,
                  rubricrm_reader_options options = defaults<rubricrm_reader_options>()) {
    rubricrm_error error;
    rubricrm_reader* made = nullptr;
    check(rubricrm_reader_new(prompt, &options, &made, &error), error);
    handle_.reset(made);
  }

  // Takes tokens. The event lives until the next call; reason() then says whether the engine should stop.
  const rubricrm_event& push(const int32_t* ids, size_t num_ids) {
    rubricrm_error error;
    const rubricrm_event* event = nullptr;
    check(rubricrm_reader_push(handle_.get(), ids, num_ids, &event, &reason_, &error), error);
    return *event;
  }

  const rubricrm_event& push(int32_t id) { return push(&id, 1); }

  const rubricrm_event& push_text(std::string_view piece) {
    rubricrm_error error;
    const rubricrm_event* event = nullptr;
    check(rubricrm_reader_push_text(handle_.get(), detail::data_of(piece), piece.size(), &event, &reason_, &error),
          error);
    return *event;
  }

  const rubricrm_event& finish(rubricrm_finish_reason reason = RUBRICRM_UNFINISHED) {
    rubricrm_error error;
    const rubricrm_event* event = nullptr;
    check(rubricrm_reader_finish(handle_.get(), reason, &event, &error), error);
    return *event;
  }

  rubricrm_finish_reason reason() const { return reason_; }
  std::string_view text() const { return view(rubricrm_reader_text(handle_.get())); }
  const rubricrm_rubric* rubric() const { return rubricrm_reader_rubric(handle_.get()); }

 private:
  detail::Handle<rubricrm_reader, &rubricrm_reader_free> handle_;
  rubricrm_finish_reason reason_ = RUBRICRM_UNFINISHED;
};

// A finished generation.
class Result {
 public:
  explicit Result(const rubricrm_result* handle) : handle_(handle) {}

  std::string_view text() const { return view(handle_->text); }
  rubricrm_finish_reason finish_reason() const { return handle_->finish_reason; }
  const char* json() const { return rubricrm_result_json(handle_.get()); }
  const rubricrm_result* operator->() const { return handle_.get(); }
  const rubricrm_result* get() const { return handle_.get(); }

  // Empty if it was not for a rubric.
  Span<rubricrm_criterion> criteria() const {
    const rubricrm_rubric* rubric = handle_->rubric;
    return {rubric ? rubric->criteria : nullptr, rubric ? rubric->num_criteria : 0};
  }
  Span<rubricrm_issue> issues() const {
    const rubricrm_rubric* rubric = handle_->rubric;
    return {rubric ? rubric->issues : nullptr, rubric ? rubric->num_issues : 0};
  }

 private:
  detail::Handle<const rubricrm_result, &rubricrm_result_free> handle_;
};

// Returns whether to go on. What it throws cancels the generation, and leaves the call that it was given to.
using EventCallback = std::function<bool(const rubricrm_event&)>;

// What became of one of many requests: a result or a failure.
struct Outcome {
  size_t index;  // the request's place, from 0
  std::optional<Result> result;
  std::optional<Failure> failure;
};

// Returns whether to go on. It may move the result away. What it throws cancels what still runs.
using OutcomeCallback = std::function<bool(Outcome&)>;

namespace detail {

// Carries a callback through C, and what it throws.
template <typename Call>
class Callback {
 public:
  explicit Callback(const Call& call) : call_(call) {}

  static int on_event(const rubricrm_event* event, void* user) {
    return run(user, [&](const Call& call) { return call(*event); });
  }

  static int on_outcome(const rubricrm_outcome* given, void* user) {
    const auto own = [&](const Call& call) {
      Outcome outcome{given->index, std::nullopt, std::nullopt};
      if (given->result != nullptr) outcome.result.emplace(given->result);
      if (given->error != nullptr) outcome.failure.emplace(*given->error);
      return call(outcome);
    };
    return run(user, own);
  }

  void rethrow() const {
    if (thrown_) std::rethrow_exception(thrown_);
  }

 private:
  template <typename Act>
  static int run(void* user, const Act& act) {
    auto* self = static_cast<Callback*>(user);
    try {
      return act(self->call_) ? 0 : 1;
    } catch (...) {
      self->thrown_ = std::current_exception();
      return 1;
    }
  }

  const Call& call_;
  std::exception_ptr thrown_;
};

}  // namespace detail

// A generation that was submitted.
class Request {
 public:
  explicit Request(rubricrm_request* handle) : handle_(handle) {}

  rubricrm_state state() const { return rubricrm_request_state(handle_.get()); }
  bool is_finished() const { return state() == RUBRICRM_FINISHED; }
  void cancel() { rubricrm_request_cancel(handle_.get()); }

  // nullptr: nothing is new. The event lives until the next call that reads.
  const rubricrm_event* poll() { return read(&rubricrm_request_poll); }
  // nullptr: everything was read.
  const rubricrm_event* next() { return read(&rubricrm_request_next); }

  void wait() {
    rubricrm_error error;
    check(rubricrm_request_wait(handle_.get(), &error), error);
  }

  void stream(const EventCallback& on_event) {
    rubricrm_error error;
    detail::Callback<EventCallback> callback(on_event);
    const rubricrm_code code = rubricrm_request_stream(handle_.get(), callback.on_event, &callback, &error);
    callback.rethrow();
    check(code, error);
  }

  Result result() {
    rubricrm_error error;
    const rubricrm_result* made = nullptr;
    check(rubricrm_request_result(handle_.get(), &made, &error), error);
    return Result(made);
  }

 private:
  template <typename Call>
  const rubricrm_event* read(Call call) {
    rubricrm_error error;
    const rubricrm_event* event = nullptr;
    check(call(handle_.get(), &event, &error), error);
    return event;
  }

  detail::Handle<rubricrm_request, &rubricrm_request_free> handle_;
};

using GenerationOptions = rubricrm_generation_options;

// An open model.
class Model {
 public:
  explicit Model(const std::string& path, rubricrm_model_options options = defaults<rubricrm_model_options>()) {
    rubricrm_error error;
    rubricrm_model* made = nullptr;
    check(rubricrm_model_open(path.c_str(), &options, &made, &error), error);
    handle_.reset(made);
  }

  const rubricrm_facts& facts() const { return *rubricrm_model_facts(handle_.get()); }
  const rubricrm_prompt* prompt() const { return rubricrm_model_prompt(handle_.get()); }
  rubricrm_model* get() const { return handle_.get(); }

  Result generate(std::string_view request, GenerationOptions options = defaults<GenerationOptions>()) {
    return result([&](auto made, auto error) {
      return rubricrm_generate(get(), detail::data_of(request), request.size(), &options, made, error);
    });
  }

  Result stream(std::string_view request, const EventCallback& on_event,
                GenerationOptions options = defaults<GenerationOptions>()) {
    rubricrm_error error;
    const rubricrm_result* made = nullptr;
    detail::Callback<EventCallback> callback(on_event);
    const rubricrm_code code = rubricrm_stream(get(), detail::data_of(request), request.size(), &options,
                                               callback.on_event, &callback, &made, &error);
    Result result(made);
    callback.rethrow();
    check(code, error);
    return result;
  }

  Result generate_fields(const char* name, const Fields& fields,
                         GenerationOptions options = defaults<GenerationOptions>()) {
    const auto values = detail::as_fields(fields);
    return result([&](auto made, auto error) {
      return rubricrm_generate_fields(get(), name, values.data(), values.size(), &options, made, error);
    });
  }

  Result generate_messages(const Messages& messages, GenerationOptions options = defaults<GenerationOptions>()) {
    const auto values = detail::as_messages(messages);
    return result([&](auto made, auto error) {
      return rubricrm_generate_messages(get(), values.data(), values.size(), &options, made, error);
    });
  }

  // max_concurrency: 0: as many as the model computes together.
  void generate_many(const std::vector<std::string>& requests, const OutcomeCallback& on_outcome,
                     GenerationOptions options = defaults<GenerationOptions>(), uint32_t max_concurrency = 0) {
    rubricrm_error error;
    std::vector<rubricrm_text> texts;
    for (const std::string& request : requests) texts.push_back({request.data(), request.size()});
    detail::Callback<OutcomeCallback> callback(on_outcome);
    const rubricrm_code code = rubricrm_generate_many(get(), texts.data(), texts.size(), &options, max_concurrency,
                                                      callback.on_outcome, &callback, &error);
    callback.rethrow();
    check(code, error);
  }

  Request submit(std::string_view request, GenerationOptions options = defaults<GenerationOptions>()) {
    rubricrm_error error;
    rubricrm_request* made = nullptr;
    check(rubricrm_submit(get(), detail::data_of(request), request.size(), &options, &made, &error), error);
    return Request(made);
  }

  Request submit_fields(const char* name, const Fields& fields,
                        GenerationOptions options = defaults<GenerationOptions>()) {
    rubricrm_error error;
    rubricrm_request* made = nullptr;
    const auto values = detail::as_fields(fields);
    check(rubricrm_submit_fields(get(), name, values.data(), values.size(), &options, &made, &error), error);
    return Request(made);
  }

  Request submit_messages(const Messages& messages, GenerationOptions options = defaults<GenerationOptions>()) {
    rubricrm_error error;
    rubricrm_request* made = nullptr;
    const auto values = detail::as_messages(messages);
    check(rubricrm_submit_messages(get(), values.data(), values.size(), &options, &made, &error), error);
    return Request(made);
  }

  // One step for all requests; whether there was anything to compute.
  bool step() {
    rubricrm_error error;
    int32_t has_work = 0;
    check(rubricrm_model_step(get(), &has_work, &error), error);
    return has_work != 0;
  }

  void close() {
    rubricrm_error error;
    check(rubricrm_model_close(get(), &error), error);
  }

 private:
  template <typename Call>
  static Result result(Call call) {
    rubricrm_error error;
    const rubricrm_result* made = nullptr;
    check(call(&made, &error), error);
    return Result(made);
  }

  detail::Handle<rubricrm_model, &rubricrm_model_free> handle_;
};

}  // namespace view_1
}  // namespace rubricrm
