#include "generation/drafting.h"

#include <algorithm>
#include <mutex>

namespace rubricrm {
namespace {

constexpr int kMostOwnHits = 3;  // a text's own habits are learned after one or two occurrences, and unlearned as fast
constexpr double kLeastChance = 0.05;  // what is less likely is worth no row on any machine

TokenIds cut(TokenIds token_ids, int64_t limit) {
  if (static_cast<int64_t>(token_ids.size()) > limit) token_ids.resize(limit);
  return token_ids;
}

}  // namespace

Drafter::Drafter(const TokenIds& prompt_ids, const ItemNumbers& numbers, const PhraseTable* phrases)
    : phrases_(phrases), own_(kMostOwnHits), reading_(numbers) {
  for (int32_t token_id : prompt_ids) push(token_id);
  reading_.begin_list();
}

void Drafter::push(int32_t token_id) {
  const Context context = reading_.context();
  const int32_t symbol = reading_.read(token_id);
  if (symbol >= 0) own_.count(context, symbol);
}

Draft Drafter::propose(int64_t limit, const Grammar* rules, int32_t state) const {
  std::vector<Foresight> sources;  // the most general first
  std::unique_lock<std::mutex> held;
  if (phrases_ != nullptr) {
    held = phrases_->lock();
    sources.push_back({static_cast<int>(DraftSource::PHRASES), &phrases_->next()});
  }
  sources.push_back({static_cast<int>(DraftSource::TEXT), &own_});
  Draft draft;
  Reading ahead = reading_;
  double chance = 1.0;
  while (draft.size() < limit) {
    const auto [token_ids, of_grade] = following(ahead, sources, rules, state, limit - draft.size());
    if (token_ids.empty()) break;
    for (int32_t token_id : token_ids) {
      chance *= acceptance_.chance(of_grade);
      if (rules != nullptr) state = rules->next(state, token_id);
      if (state < 0 || chance < kLeastChance) return draft;
      draft.token_ids.push_back(token_id);
      draft.grades.push_back(of_grade);
      draft.chances.push_back(chance);
      ahead.read(token_id);
    }
  }
  return draft;
}

void Drafter::settle(const Draft& draft, int64_t length, int64_t num_accepted, double price) {
  for (int64_t n = 0; n < std::min(length, num_accepted + 1); ++n) {
    acceptance_.record(draft.grades[n], n < num_accepted);
  }
  credit_.settle(price, num_accepted);
}

// The next drafted tokens, `limit` at most, and their grade: of the best source that knows any.
Drafter::Following Drafter::following(const Reading& ahead, const std::vector<Foresight>& sources, const Grammar* rules,
                                      int32_t state, int64_t limit) {
  if (rules != nullptr) {
    TokenIds forced = rules->forced(state, limit);
    if (!forced.empty()) return {std::move(forced), grade(DraftSource::GRAMMAR, 1.0)};
  }
  TokenIds rest = cut(ahead.rest(), limit);
  if (!rest.empty()) return {std::move(rest), grade(DraftSource::NUMBER, 1.0)};
  const auto [symbol, probability, source] = foreseen(ahead.context(), sources);
  if (symbol < 0) return {};
  // Of a number of several tokens the others are certain after the first: they come as its rest.
  TokenIds token_ids = symbol == kNumber ? cut(ahead.next_number(), 1) : TokenIds{symbol};
  return {std::move(token_ids), grade(static_cast<DraftSource>(source), probability)};
}

}  // namespace rubricrm
