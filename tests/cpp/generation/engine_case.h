// An engine on the fake session, and what a sequence gives there.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "generation/engine.h"
#include "generation/fake_session.h"

namespace rubricrm {

struct EngineCase {
  explicit EngineCase(const EngineOptions& options = {}, FakeOptions fake = {}, const TokenIds* prefix = nullptr,
                      std::unique_ptr<Drafts> drafts = nullptr)
      : log(std::make_shared<FakeSession::Log>()) {
    const EngineFacts facts{"fake", kFakeContext, kFakeTokens, 100};
    std::optional<FixedPrefix> fixed;
    if (prefix != nullptr) fixed = FixedPrefix{*prefix, {prefix->data(), static_cast<int64_t>(prefix->size())}};
    engine = std::make_unique<Engine>(std::make_unique<FakeSession>(fake, log), facts, std::move(fixed), options,
                                      std::move(drafts));
  }

  std::shared_ptr<Sequence> submit(const TokenIds& prompt_ids, const GenerationOptions& options = {}) {
    Order order;
    order.prompt_ids = prompt_ids;
    order.options = options;
    order.stop_ids = {kEnd};
    return engine->submit(std::move(order));
  }

  void finish() {
    while (engine->step()) {
    }
  }

  // Tokens of all steps.
  int64_t num_rows() const {
    int64_t sum = 0;
    for (const auto& step : log->steps) {
      for (const int count : step) sum += count;
    }
    return sum;
  }

  std::shared_ptr<FakeSession::Log> log;
  std::unique_ptr<Engine> engine;
};

// All that a sequence gives.
struct Answer {
  TokenIds token_ids;
  FinishReason reason = FinishReason::NONE;
  Code error = Code::OK;
  std::vector<double> logprobs;

  bool operator==(const Answer& other) const {
    return token_ids == other.token_ids && reason == other.reason && error == other.error && logprobs == other.logprobs;
  }
};

inline Answer answer_of(const Sequence& sequence) {
  const Sequence::Outcome outcome = sequence.outcome();
  const std::optional<Error> error = sequence.error();
  Answer answer{outcome.token_ids, outcome.finish_reason, error ? error->code() : Code::OK, {}};
  for (const TokenLogprobs& entry : outcome.logprobs) answer.logprobs.push_back(entry.logprob);
  return answer;
}

// What a prompt gives alone, in an engine of its own with one slot.
inline Answer alone(const TokenIds& prompt_ids, const GenerationOptions& options) {
  EngineOptions one;
  one.max_concurrency = 1;
  EngineCase fresh(one);
  const auto sequence = fresh.submit(prompt_ids, options);
  fresh.finish();
  return answer_of(*sequence);
}

inline TokenIds ids_from(int first, int count) {
  TokenIds ids;
  for (int i = 0; i < count; ++i) ids.push_back(20 + (first + i) % 28);
  return ids;
}

}  // namespace rubricrm
