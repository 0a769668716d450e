// A sequence gives the same alone and among others: random arrivals, priorities, cancels, timeouts, ways to sample,
// drafts, slots, memory and kept prompts.
#include <algorithm>
#include <cmath>
#include <map>

#include "expect.h"
#include "generation/engine_case.h"

using namespace rubricrm;

namespace {

struct Request {
  TokenIds prompt_ids;
  GenerationOptions options;
  Answer expected;  // alone, without priority and timeout
  bool is_poisoned = false;
};

// Drafts what is known to follow, with mistakes here and there.
class Guesses : public Drafts {
 public:
  Guesses(const std::vector<Request>& requests, unsigned seed) : random_(seed) {
    for (const Request& request : requests) {
      expected_[key(request.prompt_ids, request.options)] = request.expected.token_ids;
    }
  }

  std::unique_ptr<Drafter> drafter(const TokenIds&, bool) override { return nullptr; }

  std::vector<PricedDraft> propose(const std::vector<Sequence*>& sequences, int64_t rows_left, int64_t) override {
    std::vector<PricedDraft> drafts;
    for (const Sequence* sequence : sequences) {
      const int64_t most = std::min({rows_left, sequence->tokens_left() - 1, int64_t{random_.integer(0, 6)}});
      drafts.emplace_back();
      const TokenIds& known = expected_.at(key(sequence->prompt_ids(), sequence->options()));
      const size_t place = sequence->token_ids().size();
      for (int64_t i = 0; i < most; ++i) {
        const int32_t guess = place + i < known.size() ? known[place + i] : kEnd;
        drafts.back().token_ids.push_back(random_.integer(0, 5) == 0 ? random_.integer(20, 40) : guess);
      }
      rows_left -= std::max<int64_t>(0, most);
    }
    return drafts;
  }

  void settle(Sequence&, const PricedDraft& draft, int64_t num_accepted) override {
    drafted += static_cast<int64_t>(draft.token_ids.size());
    accepted += num_accepted;
  }
  void learn(const Sequence&) override { ++learned; }

  int64_t drafted = 0, accepted = 0, learned = 0;

 private:
  using Key = std::pair<TokenIds, std::pair<uint64_t, int64_t>>;
  static Key key(const TokenIds& prompt_ids, const GenerationOptions& options) {
    return {prompt_ids, {*options.seed, *options.max_new_tokens}};
  }
  std::map<Key, TokenIds> expected_;
  Numbers random_;
};

std::vector<Request> make_requests(Numbers& random, const TokenIds& prefix) {
  std::vector<Request> requests;
  const int count = random.integer(1, 12);
  for (int i = 0; i < count; ++i) {
    Request request;
    // Prompts begin alike: with the prefix, with a part of it, with one another.
    const int begin = random.integer(0, 2);
    if (begin == 0) request.prompt_ids = prefix;
    if (begin == 1) request.prompt_ids.assign(prefix.begin(), prefix.begin() + random.integer(0, 30));
    if (!requests.empty() && random.integer(0, 2) == 0) {
      request.prompt_ids = requests[random.integer(0, static_cast<int>(requests.size()) - 1)].prompt_ids;
    }
    const int more = random.integer(request.prompt_ids.empty() ? 1 : 0, 3) * random.integer(1, 60);
    const TokenIds tail = ids_from(random.integer(0, 3), more);
    request.prompt_ids.insert(request.prompt_ids.end(), tail.begin(), tail.end());
    request.prompt_ids.resize(std::min<size_t>(request.prompt_ids.size(), 200));
    if (request.prompt_ids.empty()) request.prompt_ids = {21};
    if (random.integer(0, 9) == 0) request.prompt_ids.insert(request.prompt_ids.end(), {kPoison, 30, kPoison});
    request.is_poisoned = std::count(request.prompt_ids.begin(), request.prompt_ids.end(), kPoison) > 1;
    GenerationOptions& options = request.options;
    options.max_new_tokens = random.integer(1, 40);
    options.seed = static_cast<uint64_t>(i);
    options.temperature = random.integer(0, 1) ? 0.0 : 1.5;
    if (random.integer(0, 3) == 0) options.logprobs = random.integer(0, 3);
    request.expected = alone(request.prompt_ids, options);
    requests.push_back(std::move(request));
  }
  return requests;
}

bool is_beginning(const TokenIds& part, const TokenIds& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

void check_usage(const Sequence& sequence, const Sequence::Outcome& outcome, unsigned seed) {
  EXPECT(outcome.accepted_tokens <= outcome.drafted_tokens, "seed %u", seed);
  EXPECT(outcome.cached_tokens < static_cast<int64_t>(sequence.prompt_ids().size()), "seed %u", seed);
  EXPECT(outcome.times.ended.has_value(), "seed %u", seed);
}

void run(unsigned seed) {
  Numbers random(seed);
  const TokenIds prefix = ids_from(5, 40);
  const std::vector<Request> requests = make_requests(random, prefix);
  EngineOptions options;
  options.max_concurrency = random.integer(1, 6);
  options.keep_prompts = random.integer(0, 1) == 0;
  if (random.integer(0, 2) == 0) options.max_memory = 10 * random.integer(260, 700);
  FakeOptions fake;
  fake.max_rows = std::vector<int>{9, 50, 256}[random.integer(0, 2)];
  fake.takes_any_mix = random.integer(0, 1) == 0;
  std::unique_ptr<Guesses> guesses;
  if (random.integer(0, 1) == 0) guesses = std::make_unique<Guesses>(requests, seed);
  EngineCase shared(options, fake, random.integer(0, 2) ? &prefix : nullptr, std::move(guesses));

  struct Running {
    const Request* request;
    std::shared_ptr<Sequence> sequence;
    int steps_to_leave;
    bool has_timeout;
  };
  std::vector<Running> running;
  for (int round = random.integer(1, 3); round > 0; --round) {
    for (const Request& request : requests) {
      GenerationOptions asked = request.options;
      asked.priority = random.integer(-1, 1);
      const bool has_timeout = random.integer(0, 9) == 0;
      if (has_timeout) asked.timeout_s = 1e-5;
      const int leaves = random.integer(0, 4) == 0 ? random.integer(0, 12) : -1;
      running.push_back({&request, shared.submit(request.prompt_ids, asked), leaves, has_timeout});
      for (int steps = random.integer(0, 9); steps > 0; --steps) {
        shared.engine->step();
        for (Running& one : running) {
          if (one.steps_to_leave >= 0 && one.steps_to_leave-- == 0) one.sequence->finish(FinishReason::CANCELLED);
        }
      }
    }
  }
  shared.finish();
  for (const Running& one : running) {
    const Answer found = answer_of(*one.sequence);
    const Answer& expected = one.request->expected;
    check_usage(*one.sequence, one.sequence->outcome(), seed);
    if (found.reason == FinishReason::CANCELLED || found.reason == FinishReason::TIMEOUT) {
      EXPECT(one.steps_to_leave == -1 || one.has_timeout, "seed %u", seed);
      EXPECT(is_beginning(found.token_ids, expected.token_ids), "seed %u: a beginning of what it gives alone", seed);
    } else if (found.error == Code::OUTPUT_INVALID) {
      // With drafts a step may compute the row that is no number before all tokens before it are decided.
      EXPECT(one.request->is_poisoned, "seed %u: only its own numbers fail a sequence", seed);
      EXPECT(is_beginning(found.token_ids, expected.token_ids), "seed %u: a beginning of what it gives alone", seed);
    } else {
      EXPECT(found == expected, "seed %u: %zu tokens, alone %zu", seed, found.token_ids.size(),
             expected.token_ids.size());
    }
  }
}

}  // namespace

int main() {
  for (unsigned seed = 0; seed < 1500; ++seed) run(seed);
  return failures != 0;
}
