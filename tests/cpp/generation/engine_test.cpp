// The loop: why a sequence ends, what fails with it, who is computed when, and that nothing is computed in vain.
#include "expect.h"
#include "generation/engine_case.h"

using namespace rubricrm;

namespace {

GenerationOptions at_most(int64_t count) {
  GenerationOptions options;
  options.max_new_tokens = count;
  return options;
}

const TokenIds kPrompt = ids_from(0, 30);

template <typename Call>
Code code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return Code::OK;
}

// A prompt that the model ends by itself: searched for, so that the test knows of no particular model.
TokenIds prompt_that_stops() {
  for (int first = 0; first < 200; ++first) {
    const TokenIds prompt = ids_from(first, 10 + first);
    if (alone(prompt, at_most(60)).reason == FinishReason::STOP) return prompt;
  }
  return {};
}

// One that it goes on after.
TokenIds prompt_that_goes_on() {
  for (int first = 1; first < 200; ++first) {
    const TokenIds prompt = ids_from(first, 20);
    if (alone(prompt, at_most(10)).reason == FinishReason::LENGTH) return prompt;
  }
  return {};
}

void a_stop_id_ends_it_and_is_no_part_of_it() {
  const TokenIds prompt = prompt_that_stops();
  EXPECT(!prompt.empty(), "no prompt of this model ends by itself");
  const Answer answer = alone(prompt, at_most(60));
  EXPECT(std::count(answer.token_ids.begin(), answer.token_ids.end(), kEnd) == 0, "the stop id was written");
}

void the_limit_is_length_and_no_token_is_run_in_vain() {
  for (const int limit : {1, 2, 4}) {
    EngineCase one;
    const auto sequence = one.submit(kPrompt, at_most(limit));
    one.finish();
    const Answer answer = answer_of(*sequence);
    EXPECT(answer.reason == FinishReason::LENGTH && static_cast<int>(answer.token_ids.size()) == limit, "%d", limit);
    EXPECT(one.num_rows() == static_cast<int64_t>(kPrompt.size()) + limit - 1, "%d", limit);
  }
}

void the_bundle_says_the_default_and_the_context_limits_it() {
  EngineCase one;
  EXPECT(one.submit(kPrompt)->tokens_left() == 100, "the default");
  EXPECT(one.submit(ids_from(0, 500))->tokens_left() == 12, "the context");
}

void prompts_that_do_not_fit_are_refused() {
  EngineCase one;
  EXPECT(code_of([&] { one.submit(ids_from(0, 512)); }) == Code::PROMPT_TOO_LONG, "a full context");
  EXPECT(code_of([&] { one.submit({}); }) == Code::REQUEST_INVALID, "an empty prompt");
  try {
    one.submit(ids_from(0, 515));
  } catch (const Error& error) {
    EXPECT(std::string(error.what()) ==
               "the prompt has 515 tokens, the context 512: no room for a new token. Shorten the request by at least 4 "
               "tokens.",
           "%s", error.what());
  }
}

void it_ends_in_any_state_and_its_slot_serves_the_next() {
  for (const State state : {State::WAITING, State::PREFILLING, State::DECODING}) {
    for (const bool by_timeout : {false, true}) {
      EngineOptions options;
      options.max_concurrency = 1;
      EngineCase one(options);
      const auto before = one.submit(kPrompt, at_most(5));
      if (state != State::WAITING) before->finish(FinishReason::CANCELLED);
      GenerationOptions asked = at_most(50);
      asked.timeout_s = 1000.0;
      const auto sequence = one.submit(ids_from(3, 150), asked);
      while (sequence->state() != state) one.engine->step();
      const size_t num_tokens = sequence->token_ids().size();
      if (by_timeout) {
        sequence->end_if_due(Clock::now() + std::chrono::hours(1));
      } else {
        sequence->finish(FinishReason::CANCELLED);
      }
      const auto after = one.submit(ids_from(3, 150), at_most(4));
      one.finish();
      EXPECT(sequence->finish_reason() == (by_timeout ? FinishReason::TIMEOUT : FinishReason::CANCELLED), "the reason");
      EXPECT(sequence->token_ids().size() == num_tokens, "it keeps what it has");
      EXPECT(answer_of(*after) == alone(ids_from(3, 150), at_most(4)), "the next one");
    }
  }
}

void what_a_step_brings_after_the_end_is_dropped() {
  EngineCase one;
  const auto sequence = one.submit(kPrompt, at_most(20));
  while (sequence->token_ids().size() < 3) one.engine->step();
  one.log->before_step = [&] { sequence->finish(FinishReason::CANCELLED); };
  one.engine->step();
  EXPECT(sequence->token_ids().size() == 3, "%zu tokens", sequence->token_ids().size());
}

void time_is_up_without_a_step_too() {
  EngineCase one;
  GenerationOptions asked;
  asked.timeout_s = 1e-9;
  const auto sequence = one.submit(kPrompt, asked);
  one.engine->wait(*sequence, [] { return false; });
  EXPECT(sequence->finish_reason() == FinishReason::TIMEOUT && one.log->steps.empty(), "no step was needed");
}

void a_full_queue_refuses_until_somebody_leaves_it() {
  EngineOptions options;
  options.max_concurrency = 1;
  options.max_waiting = 2;
  EngineCase one(options);
  const auto first = one.submit(kPrompt);
  one.engine->step();
  const auto second = one.submit(kPrompt);
  const auto third = one.submit(kPrompt);
  EXPECT(code_of([&] { one.submit(kPrompt); }) == Code::ENGINE_BUSY, "two wait already");
  second->finish(FinishReason::CANCELLED);
  EXPECT(code_of([&] { one.submit(kPrompt); }) == Code::OK, "one has left");
}

void an_error_of_the_runtime_fails_the_sequences_of_that_step_alone() {
  EngineOptions options;
  options.max_concurrency = 2;
  EngineCase one(options);
  const auto first = one.submit(kPrompt), second = one.submit(prompt_that_goes_on());
  const auto third = one.submit(kPrompt, at_most(4));
  one.engine->step();
  one.log->before_step = [] { throw Error(Code::RUNTIME_FAILED, "out of luck"); };
  one.engine->step();
  one.log->before_step = [] {};
  one.finish();
  EXPECT(answer_of(*first).error == Code::RUNTIME_FAILED && answer_of(*second).error == Code::RUNTIME_FAILED, "both");
  EXPECT(answer_of(*third) == alone(kPrompt, at_most(4)), "the one that waited goes on");
}

void any_other_exception_in_a_step_fails_all_and_says_whose_fault_it_is() {
  EngineCase one;
  const auto sequence = one.submit(kPrompt);
  one.log->before_step = [] { throw std::runtime_error("a surprise"); };
  one.finish();
  EXPECT(answer_of(*sequence).error == Code::RUNTIME_FAILED, "its code");
  const std::string message = sequence->error() ? sequence->error()->what() : "";
  EXPECT(message == "a step of the engine failed: a surprise. It is rubricrm's fault: please report it.", "%s",
         message.c_str());
}

// A prompt after which this model writes long enough to meet what is no number.
TokenIds poisoned_prompt() {
  for (int first = 0; first < 200; ++first) {
    TokenIds prompt = ids_from(first, 20);
    prompt.insert(prompt.end(), {kPoison, 25, kPoison});
    if (alone(prompt, at_most(40)).error != Code::OK) return prompt;
  }
  return {};
}

void numbers_that_are_none_fail_their_own_sequence() {
  EngineCase one;
  const auto bad = one.submit(poisoned_prompt(), at_most(40)), good = one.submit(kPrompt, at_most(40));
  one.finish();
  EXPECT(answer_of(*bad).error == Code::OUTPUT_INVALID && answer_of(*bad).token_ids.size() == 8, "after 8 tokens");
  EXPECT(answer_of(*good) == alone(kPrompt, at_most(40)), "the other one");
  const std::string message = bad->error() ? bad->error()->what() : "";
  EXPECT(message.find("fake: 1 of 50 logits are not finite (the first is nan) after token ") == 8, "%s",
         message.c_str());
}

void the_highest_priority_goes_first_then_the_earliest() {
  EngineOptions options;
  options.max_concurrency = 1;
  EngineCase one(options);
  std::vector<std::shared_ptr<Sequence>> all;
  for (const int priority : {0, 1, 0, -1, 1}) {
    GenerationOptions asked = at_most(2);
    asked.priority = priority;
    all.push_back(one.submit(ids_from(static_cast<int>(all.size()) * 5, 20), asked));
  }
  std::vector<size_t> order;
  while (one.engine->step()) {
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i]->is_finished() && std::find(order.begin(), order.end(), i) == order.end()) order.push_back(i);
    }
  }
  EXPECT((order == std::vector<size_t>{1, 4, 0, 2, 3}), "another order");
}

void a_long_prompt_does_not_hold_up_who_decodes() {
  FakeOptions fake;
  fake.max_rows = 256;
  EngineCase one({}, fake);
  const auto decoding = one.submit(kPrompt, at_most(40));
  one.engine->step();
  const auto late = one.submit(ids_from(2, 300), at_most(1));
  while (!late->is_finished()) {
    const size_t before = decoding->token_ids().size();
    one.engine->step();
    EXPECT(decoding->is_finished() || decoding->token_ids().size() == before + 1, "a token from each step");
  }
  for (const auto& step : one.log->steps) {
    EXPECT(step.size() == 1 || step[1] <= 64, "a chunk of %d rows beside a decoding sequence", step[1]);
  }
}

void of_votes_on_one_prompt_the_first_computes_it() {
  const TokenIds prompt = ids_from(1, 200);
  EngineCase one;
  std::vector<std::shared_ptr<Sequence>> votes;
  for (int i = 0; i < 4; ++i) {
    GenerationOptions asked = at_most(1);
    asked.temperature = 1.0;
    asked.seed = i;
    votes.push_back(one.submit(prompt, asked));
  }
  one.finish();
  EXPECT(one.num_rows() == 200 + 3, "%d rows", static_cast<int>(one.num_rows()));
  for (size_t i = 1; i < votes.size(); ++i) EXPECT(votes[i]->outcome().cached_tokens == 199, "vote %zu", i);
}

void a_prompt_is_kept_unless_nobody_may_learn_of_it() {
  for (const bool keeps : {true, false}) {
    EngineOptions options;
    options.keep_prompts = keeps;
    EngineCase one(options);
    one.submit(kPrompt, at_most(1));
    one.finish();
    const auto again = one.submit(kPrompt, at_most(1));
    one.finish();
    EXPECT(again->outcome().cached_tokens == (keeps ? static_cast<int64_t>(kPrompt.size()) - 1 : 0), "%d", keeps);
  }
}

void closing_ends_everything() {
  EngineCase one;
  const auto done = one.submit(kPrompt, at_most(1));
  one.finish();
  const auto running = one.submit(ids_from(2, 20));
  one.engine->step();
  one.engine->close();
  one.engine->close();
  EXPECT(answer_of(*running).error == Code::MODEL_CLOSED, "what ran");
  EXPECT(answer_of(*done).reason == FinishReason::LENGTH, "what had ended stays");
  EXPECT(code_of([&] { one.submit(kPrompt); }) == Code::MODEL_CLOSED, "submit");
  EXPECT(code_of([&] { one.engine->step(); }) == Code::MODEL_CLOSED, "step");
  one.engine->wait(*running, [] { return false; });
}

}  // namespace

int main() {
  a_stop_id_ends_it_and_is_no_part_of_it();
  the_limit_is_length_and_no_token_is_run_in_vain();
  the_bundle_says_the_default_and_the_context_limits_it();
  prompts_that_do_not_fit_are_refused();
  it_ends_in_any_state_and_its_slot_serves_the_next();
  what_a_step_brings_after_the_end_is_dropped();
  time_is_up_without_a_step_too();
  a_full_queue_refuses_until_somebody_leaves_it();
  an_error_of_the_runtime_fails_the_sequences_of_that_step_alone();
  any_other_exception_in_a_step_fails_all_and_says_whose_fault_it_is();
  numbers_that_are_none_fail_their_own_sequence();
  the_highest_priority_goes_first_then_the_earliest();
  a_long_prompt_does_not_hold_up_who_decodes();
  of_votes_on_one_prompt_the_first_computes_it();
  a_prompt_is_kept_unless_nobody_may_learn_of_it();
  closing_ends_everything();
  return failures != 0;
}
