// Slots for sequences: which one, with how much of the prompt, within how much memory.
#include "expect.h"
#include "generation/fake_session.h"
#include "generation/slot_pool.h"

using namespace rubricrm;

namespace {

TokenIds range(int from, int to) {
  TokenIds ids;
  for (int id = from; id < to; ++id) ids.push_back(id);
  return ids;
}

const TokenIds kPrefix = range(20, 60), kA = range(60, 100), kB = range(100, 140), kC = range(140, 180);

TokenIds joined(const TokenIds& a, const TokenIds& b) {
  TokenIds ids = a;
  ids.insert(ids.end(), b.begin(), b.end());
  return ids;
}

// A pool and its session.
struct Case {
  explicit Case(bool takes_any_mix, int64_t count = 2, std::optional<int64_t> positions = {}, bool has_prefix = false,
                bool keeps = true)
      : session({64, takes_any_mix}, log), pool(session, kFakeContext, prefix(has_prefix), options(count, positions, keeps)) {}

  static std::optional<FixedPrefix> prefix(bool has_prefix) {
    if (!has_prefix) return std::nullopt;
    return FixedPrefix{kPrefix, {kPrefix.data(), static_cast<int64_t>(kPrefix.size())}};
  }

  static EngineOptions options(int64_t count, std::optional<int64_t> positions, bool keeps) {
    EngineOptions options;
    options.max_concurrency = count;
    if (positions) options.max_memory = *positions * 10;  // bytes of a fake position
    options.keep_prompts = keeps;
    return options;
  }

  std::optional<SlotPool::Lent> lend(const TokenIds& prompt, int64_t new_tokens = 10) {
    const auto lent = pool.lend(std::make_shared<TokenIds>(prompt), static_cast<int64_t>(prompt.size()) + new_tokens);
    if (!lent) return lent;
    EXPECT(lent->slot->length() == lent->num_held, "what it says it holds");
    EXPECT(lent->num_held < static_cast<int64_t>(prompt.size()), "the last token is computed");
    return lent;
  }

  // Computes a prompt, and what follows it, in a slot.
  static void compute(Slot* slot, const TokenIds& tokens) {
    for (size_t i = slot->length(); i < tokens.size(); ++i) static_cast<FakeSlot*>(slot)->append(tokens[i]);
  }

  SlotPool::Lent use(const TokenIds& prompt, const TokenIds& generated = {}) {
    const auto lent = lend(prompt);
    if (!lent) return {nullptr, -1};
    const TokenIds tokens = joined(prompt, generated);
    compute(lent->slot, tokens);
    pool.give_back(lent->slot, tokens);
    return *lent;
  }

  std::shared_ptr<FakeSession::Log> log = std::make_shared<FakeSession::Log>();
  FakeSession session;
  SlotPool pool;
};

void what_was_computed_is_found_but_for_its_last_token(bool any_mix) {
  Case one(any_mix);
  const SlotPool::Lent first = one.use(kA, {7, 8, 9}), again = one.use(kA);
  EXPECT(first.num_held == 0 && again.slot == first.slot && again.num_held == 39, "the same prompt");
  EXPECT(one.use(joined(range(60, 85), kB)).num_held == 25, "one that begins alike");
  one.use(kA, {7, 8, 9});
  EXPECT(one.use(joined(joined(kA, {7, 8}), kC)).num_held == 42, "generated tokens too");
}

void only_what_was_computed_is_kept(bool any_mix) {
  Case one(any_mix);
  const auto lent = one.lend(kA);
  one.compute(lent->slot, range(60, 72));
  one.pool.give_back(lent->slot, kA);
  EXPECT(one.lend(kA)->num_held == 12, "a prompt that was left in its middle");
}

void a_cleared_slot_holds_nothing(bool any_mix) {
  Case one(any_mix);
  const auto lent = one.lend(kA);
  one.compute(lent->slot, kA);
  lent->slot->clear();
  one.pool.give_back(lent->slot, kA);
  EXPECT(one.lend(kA)->num_held == 0, "numbers that were none were computed in it");
}

void the_longest_beginning_wins_and_else_the_oldest(bool any_mix) {
  Case one(any_mix, 3);
  const auto a = one.lend(kA), b = one.lend(kB), c = one.lend(kC);
  one.compute(a->slot, kA);
  one.compute(b->slot, kB);
  one.compute(c->slot, kC);
  one.pool.give_back(b->slot, kB);
  one.pool.give_back(a->slot, kA);
  one.pool.give_back(c->slot, kC);
  EXPECT(one.use(kC).slot == c->slot, "what begins alike");
  EXPECT(one.use(range(200, 240)).slot == b->slot, "the oldest, where nothing does");
}

void no_more_are_lent_than_there_are(bool any_mix) {
  Case one(any_mix, 2);
  const auto first = one.lend(kA), second = one.lend(kB);
  EXPECT(first && second && first->slot != second->slot && !one.lend(kC), "two slots");
  one.pool.give_back(first->slot, {});
  EXPECT(one.lend(kC).has_value(), "one came back");
}

void a_prompt_that_is_being_computed_is_waited_for() {
  const TokenIds long_prompt = range(0, 200);
  Case one(true, 3);
  const auto first = one.lend(long_prompt);
  EXPECT(!one.lend(long_prompt), "it is about to compute 199 tokens of it");
  EXPECT(one.lend(joined(range(0, 60), kC)).has_value(), "60 tokens are not worth waiting");
  one.compute(first->slot, long_prompt);
  const auto second = one.lend(long_prompt);
  EXPECT(second && second->num_held == 199, "it was copied while the first one runs");
  Case secretive(true, 2, {}, false, false);
  secretive.lend(long_prompt);
  EXPECT(secretive.lend(long_prompt)->num_held == 0, "unless nobody may learn of it");
}

void the_fixed_part_is_never_computed(bool any_mix) {
  Case one(any_mix, 2, {}, true);
  EXPECT(one.use(joined(kPrefix, kA)).num_held == 40, "all of it");
  EXPECT(one.use(joined(kPrefix, kA)).num_held == 79, "and what was computed after it");
  EXPECT(one.use(joined(range(20, 50), kB)).num_held == 30, "a part of it");
  EXPECT(one.use(kPrefix).num_held == 39, "but its last token");
}

void what_does_not_fit_waits(bool any_mix) {
  Case one(any_mix, 4, 120);
  EXPECT(one.pool.room() == 120, "the context is cut to the memory");
  const auto first = one.lend(kA, 20);  // 60 positions
  EXPECT(!one.lend(kB, 21), "61 more are too many");
  EXPECT(one.lend(kB, 20).has_value(), "60 more fit");
  one.pool.give_back(first->slot, {});
}

void what_is_only_kept_makes_room() {
  Case one(true, 3, 100);
  one.use(kA);  // 40 positions stay
  one.use(kB);
  EXPECT(one.lend(kC, 20)->num_held == 0, "60 positions");
  EXPECT(one.lend(kA, 0)->num_held == 0, "the oldest had to go");
}

void room_is_what_the_context_leaves() {
  Case one(true);
  EXPECT(one.pool.room_after(kA) == kFakeContext - 40, "tokens may follow");
}

}  // namespace

int main() {
  for (const bool any_mix : {true, false}) {
    what_was_computed_is_found_but_for_its_last_token(any_mix);
    only_what_was_computed_is_kept(any_mix);
    a_cleared_slot_holds_nothing(any_mix);
    the_longest_beginning_wins_and_else_the_oldest(any_mix);
    no_more_are_lent_than_there_are(any_mix);
    the_fixed_part_is_never_computed(any_mix);
    what_does_not_fit_waits(any_mix);
  }
  a_prompt_that_is_being_computed_is_waited_for();
  what_is_only_kept_makes_room();
  room_is_what_the_context_leaves();
  return failures != 0;
}
