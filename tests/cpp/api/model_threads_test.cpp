// Models among threads, callbacks and forks: what a call into the library may meet there is defined, and never a crash.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <stdexcept>
#include <vector>

#include "expect.h"
#include "rubricrm.hpp"

using rubricrm::Failure;
using rubricrm::Model;
using rubricrm::Outcome;
using rubricrm::Request;
using rubricrm::Result;

namespace {

const std::string kRequests[] = {"Write a haiku about rain.", "Name three colors.", "Explain recursion to a child.",
                                 "Write a short email to a landlord.", "Sum up the plot of Hamlet."};

std::string bundle;

std::unique_ptr<Model> open(uint32_t max_concurrency = 8, uint32_t max_waiting = 0) {
  auto options = rubricrm::defaults<rubricrm_model_options>();
  options.threads = 1;
  options.max_concurrency = max_concurrency;
  options.max_waiting = max_waiting;
  return std::make_unique<Model>(bundle, options);
}

rubricrm_generation_options options_of(uint32_t max_new_tokens) {
  auto options = rubricrm::defaults<rubricrm_generation_options>();
  options.max_new_tokens = max_new_tokens;
  return options;
}

template <typename Call>
rubricrm_code code_of(Call call) {
  try {
    call();
  } catch (const Failure& failure) {
    return failure.code();
  }
  return RUBRICRM_OK;
}

std::vector<std::string> texts_alone() {
  const auto model = open();
  std::vector<std::string> texts;
  for (const std::string& request : kRequests) texts.emplace_back(model->generate(request).text());
  return texts;
}

void every_thread_gets_its_own(const std::vector<std::string>& alone) {
  const auto model = open(3);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (size_t i = 0; i < alone.size(); ++i) {
    threads.emplace_back([&, i] {
      std::string streamed;
      const Result result = model->stream(kRequests[i], [&](const rubricrm_event& event) {
        streamed += rubricrm::view(event.text);
        return true;
      });
      wrong += result.text() != alone[i] || streamed != alone[i];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(wrong == 0, "%d requests have another text", wrong.load());
}

// A callback holds no lock and does not lead: it may do all that another thread may.
void a_callback_calls_the_library(const std::vector<std::string>& alone) {
  const auto model = open();
  bool is_first = true;
  const Result outer = model->stream(kRequests[0], [&](const rubricrm_event&) {
    if (is_first) EXPECT(model->generate(kRequests[1]).text() == alone[1], "a generation in a callback");
    is_first = false;
    return true;
  });
  EXPECT(outer.text() == alone[0], "the one around it");
}

int read_itself(const rubricrm_event*, void* user) {
  const rubricrm_event* event = nullptr;
  auto* request = static_cast<rubricrm_request*>(user);
  EXPECT(rubricrm_request_next(request, &event, nullptr) == RUBRICRM_STREAM_BUSY, "it is being read");
  EXPECT(rubricrm_request_wait(request, nullptr) == RUBRICRM_STREAM_BUSY, "it is being read");
  EXPECT(rubricrm_request_state(request) >= RUBRICRM_DECODING, "its state may be asked for");
  rubricrm_request_cancel(request);
  return 0;
}

int free_itself(const rubricrm_event*, void* user) {
  rubricrm_request_free(static_cast<rubricrm_request*>(user));
  return 0;
}

rubricrm_request* submit(Model& model) {
  rubricrm_request* request = nullptr;
  rubricrm_submit(model.get(), "Write a haiku.", RUBRICRM_NUL_TERMINATED, nullptr, &request, nullptr);
  return request;
}

void a_callback_meets_its_own_request() {
  const auto model = open();
  rubricrm_request* request = submit(*model);
  EXPECT(rubricrm_request_stream(request, read_itself, request, nullptr) == RUBRICRM_OK, "it was cancelled");
  rubricrm_request_free(request);
  request = submit(*model);
  EXPECT(rubricrm_request_stream(request, free_itself, request, nullptr) == RUBRICRM_OK, "it was freed");
}

int free_model(const rubricrm_event*, void* user) {
  auto* model = static_cast<rubricrm_model**>(user);
  if (*model == nullptr) return 0;
  rubricrm_model_free(*model);
  *model = nullptr;
  return 0;
}

void a_callback_frees_the_model() {
  rubricrm_model* model = nullptr;
  EXPECT(rubricrm_model_open(bundle.c_str(), nullptr, &model, nullptr) == RUBRICRM_OK, "it opens");
  rubricrm_error error;
  const rubricrm_code code = rubricrm_stream(model, "Write a haiku.", RUBRICRM_NUL_TERMINATED, nullptr, free_model,
                                             &model, nullptr, &error);
  EXPECT(code == RUBRICRM_MODEL_CLOSED && model == nullptr, "%s", error.message);
}

void what_a_callback_throws_arrives() {
  const auto model = open();
  bool has_arrived = false;
  try {
    model->stream(kRequests[0], [](const rubricrm_event&) -> bool { throw std::runtime_error("mine"); });
  } catch (const std::runtime_error& error) {
    has_arrived = std::string(error.what()) == "mine";
  }
  EXPECT(has_arrived, "the callback's own exception");
}

void closing_while_threads_wait_ends_them() {
  for (int round = 0; round < 5; ++round) {
    const auto model = open(2);
    std::atomic<int> num_closed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const rubricrm_code code = code_of([&] {
          while (true) model->generate(kRequests[t]);
        });
        num_closed += code == RUBRICRM_MODEL_CLOSED;
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5 + 10 * round));
    model->close();
    for (std::thread& thread : threads) thread.join();
    EXPECT(num_closed == 4, "%d of 4 threads met MODEL_CLOSED", num_closed.load());
  }
}

void a_full_queue_is_typed() {
  const auto model = open(1, 1);
  std::vector<Request> requests;
  requests.push_back(model->submit(kRequests[0]));
  model->step();  // it has the slot now
  requests.push_back(model->submit(kRequests[0]));
  EXPECT(code_of([&] { model->submit(kRequests[0]); }) == RUBRICRM_ENGINE_BUSY, "one waits already");
  requests.clear();
}

struct Counts {
  size_t results = 0, busy = 0, closed = 0, others = 0;
};

bool count(Counts& counts, const Outcome& outcome) {
  if (outcome.result) return ++counts.results;
  const rubricrm_code code = outcome.failure->code();
  return ++(code == RUBRICRM_ENGINE_BUSY ? counts.busy : code == RUBRICRM_MODEL_CLOSED ? counts.closed : counts.others);
}

// As Python's generate_many: where others fill the line, a request waits for one of its own call to end.
void many_requests_meet_a_full_queue() {
  const auto model = open(1, 1);
  const std::vector<std::string> requests(std::begin(kRequests), std::end(kRequests));
  Counts alone;
  model->generate_many(requests, [&](Outcome& outcome) { return count(alone, outcome); }, options_of(4), 100);
  EXPECT(alone.results == requests.size(), "%zu results: no request is lost to the line", alone.results);

  std::vector<Request> others;
  others.push_back(model->submit(kRequests[0]));
  model->step();  // it has the slot now
  others.push_back(model->submit(kRequests[0]));
  Counts beside;
  model->generate_many(requests, [&](Outcome& outcome) { return count(beside, outcome); }, options_of(4));
  EXPECT(beside.busy == requests.size(), "%zu were refused: nothing of this call runs", beside.busy);
}

void many_requests_end_one_after_the_other(const std::vector<std::string>& alone) {
  const auto model = open(8);
  const std::vector<std::string> requests(std::begin(kRequests), std::end(kRequests));
  std::vector<size_t> order;
  model->generate_many(requests, [&](Outcome& outcome) {
    const Result kept = std::move(*outcome.result);
    EXPECT(kept.text() == alone[outcome.index], "request %zu", outcome.index);
    order.push_back(outcome.index);
    return true;
  }, options_of(0), 1);
  EXPECT((order == std::vector<size_t>{0, 1, 2, 3, 4}), "one at a time");
}

// In its callback the model may be used, closed and freed, and what it throws arrives.
void many_requests_and_their_callback(const std::vector<std::string>& alone) {
  const auto model = open(2);
  const std::vector<std::string> requests(6, kRequests[1]);
  bool is_first = true;
  Counts counts;
  model->generate_many(requests, [&](Outcome& outcome) {
    if (is_first) EXPECT(model->generate(kRequests[0]).text() == alone[0], "a generation in a callback");
    is_first = false;
    return count(counts, outcome);
  }, options_of(8));
  EXPECT(counts.results == 6, "%zu results", counts.results);
  bool has_arrived = false;
  try {
    model->generate_many(requests, [](Outcome&) -> bool { throw std::runtime_error("mine"); }, options_of(8));
  } catch (const std::runtime_error& error) {
    has_arrived = std::string(error.what()) == "mine";
  }
  EXPECT(has_arrived && !model->step(), "what ran was cancelled");
  Counts closed;
  model->generate_many(requests, [&](Outcome& outcome) {
    model->close();
    return count(closed, outcome);
  }, options_of(8), 2);
  // Both that ran may have ended in one step.
  EXPECT(closed.results + closed.closed == 6 && closed.closed >= 4, "%zu and %zu", closed.results, closed.closed);
}

void many_requests_among_threads(const std::vector<std::string>& alone) {
  const auto model = open(3);
  const std::vector<std::string> requests(std::begin(kRequests), std::end(kRequests));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      model->generate_many(requests, [&](Outcome& outcome) {
        wrong += !outcome.result || outcome.result->text() != alone[outcome.index];
        return true;
      });
    });
  }
  for (int i = 0; i < 3; ++i) wrong += model->generate(kRequests[i]).text() != alone[i];
  for (std::thread& thread : threads) thread.join();
  EXPECT(wrong == 0, "%d results are others", wrong.load());
}

// Its timeout is kept though nobody reads it.
void many_requests_have_their_timeouts() {
  const auto model = open();
  auto options = rubricrm::defaults<rubricrm_generation_options>();
  options.timeout_s = 1e-6;
  size_t num = 0;
  model->generate_many({kRequests[0], kRequests[1]}, [&](Outcome& outcome) {
    EXPECT(outcome.result && outcome.result->finish_reason() == RUBRICRM_TIMEOUT, "its time was up");
    return ++num > 0;
  }, options);
  EXPECT(num == 2, "%zu outcomes", num);
}

// An application that was compiled with a header without the newest option.
void an_older_struct_of_options_opens_a_model() {
  auto options = rubricrm::defaults<rubricrm_model_options>();
  options.threads = 1;
  options.struct_size = offsetof(rubricrm_model_options, cache_directory);
  options.cache_directory = reinterpret_cast<const char*>(1);  // is not looked at
  EXPECT(code_of([&] { Model(bundle, options); }) == RUBRICRM_OK, "an older struct");
}

// Each opening keeps what this machine computed where the option says. packed: a bundle of exact kernels.
void a_cache_directory_is_an_option(const std::string& packed) {
  namespace fs = std::filesystem;
  const fs::path top = fs::temp_directory_path() / ("rubricrm-cache-" + std::to_string(getpid()));
  fs::create_directory(top);
  fs::permissions(top, fs::perms::owner_all);
  std::vector<std::string> warnings;
  const auto note = [](const char* message, void* user) {
    static_cast<std::vector<std::string>*>(user)->push_back(message);
  };
  auto options = rubricrm::defaults<rubricrm_model_options>();
  options.threads = 1;
  options.save_phrases = RUBRICRM_ON;
  options.on_warning = note;
  options.warning_user = &warnings;
  const std::string chosen = (top / "chosen").string();
  options.cache_directory = chosen.c_str();
  {
    Model model(packed, options);
    model.generate(kRequests[0]);
    model.close();
    EXPECT(fs::exists(fs::path(chosen) / model.facts().manifest_sha256 / "phrases.safetensors"), "what was kept");
  }
  EXPECT(warnings.empty(), "%s", warnings.front().c_str());
  options.save_phrases = RUBRICRM_OFF;
  std::ofstream(top / "file").put('x');
  const std::string unusable = (top / "file" / "below").string();
  options.cache_directory = unusable.c_str();
  EXPECT(code_of([&] { Model(packed, options); }) == RUBRICRM_OK, "it opens");
  EXPECT(!warnings.empty() && warnings.front().find("Set cache_directory to") != std::string::npos, "%zu warnings",
         warnings.size());
  options.cache_directory = "\xFF";
  EXPECT(code_of([&] { Model(bundle, options); }) == RUBRICRM_OPTION_INVALID, "no UTF-8");
  fs::remove_all(top);
}

void a_timeout_is_a_result() {
  const auto model = open();
  auto options = rubricrm::defaults<rubricrm_generation_options>();
  options.timeout_s = 1e-6;
  EXPECT(model->generate(kRequests[0], options).finish_reason() == RUBRICRM_TIMEOUT, "its time was up");
  // Nobody waits and nobody steps: whoever asks first is told the same.
  Request taken = model->submit(kRequests[0], options), asked = model->submit(kRequests[0], options);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT(taken.result().finish_reason() == RUBRICRM_TIMEOUT, "the result was taken after its time");
  EXPECT(asked.is_finished() && asked.result().finish_reason() == RUBRICRM_TIMEOUT, "the state");
}

void a_default_text_is_empty() {
  const auto model = open();
  const std::string_view none;
  for (const rubricrm_code code :
       {code_of([&] { model->generate(none); }), code_of([&] { model->submit(none); }),
        code_of([&] { model->stream(none, [](const rubricrm_event&) { return true; }); })}) {
    EXPECT(code == RUBRICRM_REQUEST_INVALID, "code %d", code);
  }
  try {
    model->generate(none);
  } catch (const Failure& failure) {
    EXPECT(std::string(failure.what()).find("NULL") == std::string::npos, "%s", failure.what());
  }
}

void bad_options_are_typed() {
  const auto model = open();
  const auto code_with = [&](void (*set)(rubricrm_generation_options&)) {
    auto options = rubricrm::defaults<rubricrm_generation_options>();
    set(options);
    return code_of([&] { model->generate(kRequests[0], options); });
  };
  EXPECT(code_with([](auto& o) { o.temperature = -1; }) == RUBRICRM_OPTION_INVALID, "temperature");
  EXPECT(code_with([](auto& o) { o.temperature = 0.0 / 0.0; }) == RUBRICRM_OPTION_INVALID, "NaN");
  EXPECT(code_with([](auto& o) { o.top_p = 1.5; }) == RUBRICRM_OPTION_INVALID, "top_p");
  EXPECT(code_with([](auto& o) { o.min_p = -0.5; }) == RUBRICRM_OPTION_INVALID, "min_p");
  EXPECT(code_with([](auto& o) { o.timeout_s = -1; }) == RUBRICRM_OPTION_INVALID, "timeout_s");
  EXPECT(code_with([](auto& o) { o.constrain = 9; }) == RUBRICRM_OPTION_INVALID, "a switch");
  EXPECT(code_with([](auto& o) { o.num_stop = 1; }) == RUBRICRM_OPTION_INVALID, "stop is NULL");
  const auto many_logprobs = [](auto& o) { o.logprobs = RUBRICRM_ON, o.num_top_logprobs = 21; };
  EXPECT(code_with(many_logprobs) == RUBRICRM_OPTION_INVALID, "num_top_logprobs");
  EXPECT(code_with([](auto& o) { o.struct_size = 3; }) == RUBRICRM_OPTION_INVALID, "a size");
  static const char* const empty[] = {""};
  EXPECT(code_with([](auto& o) { o.stop = empty, o.num_stop = 1; }) == RUBRICRM_OPTION_INVALID, "an empty stop");
  EXPECT(code_of([&] { model->generate(std::string(100000, 'a') + " b"); }) == RUBRICRM_PROMPT_TOO_LONG, "too long");
  const auto open_with = [&](void (*set)(rubricrm_model_options&)) {
    auto options = rubricrm::defaults<rubricrm_model_options>();
    set(options);
    return code_of([&] { Model(bundle, options); });
  };
  EXPECT(open_with([](auto& o) { o.max_concurrency = 129; }) == RUBRICRM_OPTION_INVALID, "max_concurrency");
  EXPECT(open_with([](auto& o) { o.device = "toaster"; }) == RUBRICRM_OPTION_INVALID, "a device");
  EXPECT(open_with([](auto& o) { o.reserved = 1; }) == RUBRICRM_OPTION_UNKNOWN, "reserved");
  EXPECT(open_with([](auto& o) { o.onnxruntime = "/no/such.so"; }) == RUBRICRM_RUNTIME_MISSING, "a library");
}

// The child may use nothing of the model, and hangs nowhere, whatever the parent's threads did when it was forked.
int in_child(Model& model, Request& request, const Result& result) {
  int wrong = 0;
  wrong += code_of([&] { model.generate("x"); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { model.submit("x"); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { model.step(); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { model.close(); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { request.next(); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { request.poll(); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { request.wait(); }) != RUBRICRM_MODEL_CLOSED;
  wrong += code_of([&] { request.result(); }) != RUBRICRM_MODEL_CLOSED;
  wrong += !request.is_finished();
  request.cancel();
  wrong += result.json() == nullptr;
  wrong += rubricrm::Rubric("1. The response rhymes. [Principle]").criteria().size() != 1;
  return wrong;
}

// AddressSanitizer's own memory may be locked by another thread at a fork, as that of the C library is not.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kForksAmongThreads = false;
#else
constexpr bool kForksAmongThreads = true;
#endif

void a_fork_is_typed() {
  const auto model = open(2);
  const Result result = model->generate(kRequests[0]);
  std::atomic<bool> is_over{false};
  std::thread busy([&] {
    while (kForksAmongThreads && !is_over) model->generate(kRequests[1]);
  });
  if (!kForksAmongThreads) busy.join();
  Request request = model->submit(kRequests[2]);
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      _exit(in_child(*model, request, result));
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
  }
  is_over = true;
  if (kForksAmongThreads) busy.join();
}

// Handles that a fork frees.
void a_fork_frees_handles() {
  auto model = open();
  auto request = std::make_unique<Request>(model->submit(kRequests[0]));
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    request.reset();
    model.reset();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
  EXPECT(request->next() != nullptr, "the parent goes on");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  bundle = argv[1];
  try {
    open();
  } catch (const Failure& failure) {
    std::printf("%s\n", failure.what());
    return failure.code() == RUBRICRM_RUNTIME_MISSING ? 77 : 1;
  }
  const std::vector<std::string> alone = texts_alone();
  every_thread_gets_its_own(alone);
  a_callback_calls_the_library(alone);
  a_callback_meets_its_own_request();
  a_callback_frees_the_model();
  what_a_callback_throws_arrives();
  closing_while_threads_wait_ends_them();
  a_full_queue_is_typed();
  many_requests_meet_a_full_queue();
  many_requests_end_one_after_the_other(alone);
  many_requests_and_their_callback(alone);
  many_requests_among_threads(alone);
  many_requests_have_their_timeouts();
  an_older_struct_of_options_opens_a_model();
  a_cache_directory_is_an_option(argv[2]);
  a_timeout_is_a_result();
  a_default_text_is_empty();
  bad_options_are_typed();
  a_fork_is_typed();
  a_fork_frees_handles();
  return failures != 0;
}
