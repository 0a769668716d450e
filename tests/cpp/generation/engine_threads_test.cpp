// Many threads and one engine: whoever waits drives, nobody is left waiting, and nobody sees what is not his.
#include <chrono>
#include <thread>

#include "expect.h"
#include "generation/engine_case.h"

using namespace rubricrm;

namespace {

struct Asked {
  TokenIds prompt_ids;
  GenerationOptions options;
  Answer expected;
};

std::vector<Asked> make_asked(int count) {
  std::vector<Asked> all;
  for (int i = 0; i < count; ++i) {
    Asked asked;
    asked.prompt_ids = ids_from(i % 5, 10 + 7 * (i % 11));
    asked.options.max_new_tokens = 5 + i % 30;
    asked.options.temperature = i % 2 ? 1.0 : 0.0;
    asked.options.seed = static_cast<uint64_t>(i);
    asked.expected = alone(asked.prompt_ids, asked.options);
    all.push_back(asked);
  }
  return all;
}

// Waits token by token, as a reader of a stream does.
void read_slowly(Engine& engine, Sequence& sequence, int pause_us) {
  size_t num_seen = 0;
  while (!sequence.is_finished()) {
    engine.wait(sequence, [&] { return sequence.outcome().token_ids.size() > num_seen; });
    num_seen = sequence.outcome().token_ids.size();
    if (pause_us) std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
  }
}

void every_thread_gets_what_it_would_get_alone() {
  const std::vector<Asked> asked = make_asked(24);
  EngineOptions options;
  options.max_concurrency = 4;
  EngineCase shared(options);
  std::vector<Answer> found(asked.size());
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < asked.size(); i += 6) {
        const auto sequence = shared.submit(asked[i].prompt_ids, asked[i].options);
        if (t % 2) {
          read_slowly(*shared.engine, *sequence, 50 * (t / 2));
        } else {
          shared.engine->wait(*sequence, [] { return false; });
        }
        found[i] = answer_of(*sequence);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < asked.size(); ++i) EXPECT(found[i] == asked[i].expected, "request %zu", i);
}

void threads_that_wait_and_one_that_steps_go_together() {
  const std::vector<Asked> asked = make_asked(6);
  EngineCase shared;
  std::atomic<bool> is_over{false};
  std::thread stepper([&] {
    while (!is_over) {
      if (!shared.engine->step()) std::this_thread::yield();
    }
  });
  std::vector<Answer> found(asked.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < asked.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto sequence = shared.submit(asked[i].prompt_ids, asked[i].options);
      shared.engine->wait(*sequence, [] { return false; });
      found[i] = answer_of(*sequence);
    });
  }
  for (std::thread& thread : threads) thread.join();
  is_over = true;
  stepper.join();
  for (size_t i = 0; i < asked.size(); ++i) EXPECT(found[i] == asked[i].expected, "request %zu", i);
}

// The last token of one reader comes while another one leads, in every order.
void ends_from_other_threads_wake_who_waits() {
  EngineCase shared;
  shared.log->before_step = [] { std::this_thread::sleep_for(std::chrono::microseconds(200)); };
  std::vector<std::shared_ptr<Sequence>> sequences;
  for (int i = 0; i < 6; ++i) sequences.push_back(shared.submit(ids_from(i, 20)));
  std::vector<std::thread> threads;
  for (const auto& sequence : sequences) {
    threads.emplace_back([&shared, sequence] { shared.engine->wait(*sequence, [] { return false; }); });
  }
  for (const auto& sequence : sequences) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    sequence->finish(FinishReason::CANCELLED);
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& sequence : sequences) EXPECT(sequence->is_finished(), "it has ended");
}

void closing_while_others_wait_ends_them_all() {
  for (int round = 0; round < 20; ++round) {
    EngineCase shared;
    shared.log->before_step = [] { std::this_thread::sleep_for(std::chrono::microseconds(100)); };
    std::vector<std::thread> threads;
    std::atomic<int> num_closed{0}, num_refused{0};
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        try {
          while (true) {
            const auto sequence = shared.submit(ids_from(t, 30));
            shared.engine->wait(*sequence, [] { return false; });
            if (sequence->error() && sequence->error()->code() == Code::MODEL_CLOSED) ++num_closed;
          }
        } catch (const Error& error) {
          num_refused += error.code() == Code::MODEL_CLOSED;
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1 + round % 4));
    shared.engine->close();
    for (std::thread& thread : threads) thread.join();
    EXPECT(num_refused == 4, "%d were refused", num_refused.load());
  }
}

void a_timeout_of_who_sleeps_is_kept_while_another_leads() {
  EngineCase shared;
  shared.log->before_step = [] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
  const auto long_one = shared.submit(ids_from(0, 20));
  std::thread leader([&] { shared.engine->wait(*long_one, [] { return false; }); });
  GenerationOptions asked;
  asked.timeout_s = 0.02;
  const auto short_one = shared.submit(ids_from(5, 20), asked);
  shared.engine->wait(*short_one, [] { return false; });
  EXPECT(short_one->is_finished(), "its time was up, or it had ended");
  long_one->finish(FinishReason::CANCELLED);
  leader.join();
}

}  // namespace

int main() {
  every_thread_gets_what_it_would_get_alone();
  threads_that_wait_and_one_that_steps_go_together();
  ends_from_other_threads_wake_who_waits();
  closing_while_others_wait_ends_them_all();
  a_timeout_of_who_sleeps_is_kept_while_another_leads();
  return failures != 0;
}
