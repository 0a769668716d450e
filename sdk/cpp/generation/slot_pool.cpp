#include "generation/slot_pool.h"

#include <algorithm>
#include <string>
#include <utility>

#include "error.h"

namespace rubricrm {
namespace {

// A prompt waits for at least so many tokens that another sequence is about to compute: as many as a step takes of a
// prompt while others decode.
constexpr int64_t kWorthWaiting = 64;

// How many leading tokens of a prompt are held, but for its last one.
int64_t common(const TokenIds& held, const TokenIds& prompt_ids) {
  const size_t most = std::min(held.size(), prompt_ids.size());
  const auto end = std::mismatch(held.begin(), held.begin() + most, prompt_ids.begin()).first;
  return std::min<int64_t>(end - held.begin(), static_cast<int64_t>(prompt_ids.size()) - 1);
}

}  // namespace

SlotPool::SlotPool(Session& session, int64_t context_length, std::optional<FixedPrefix> prefix,
                   const EngineOptions& options)
    : session_(session),
      prefix_(std::move(prefix)),
      context_(context_length),
      count_(std::min<int64_t>(options.max_concurrency, session.max_rows())),  // so that each has a row in every step
      max_positions_(options.max_memory ? *options.max_memory / session.position_bytes() : count_ * context_),
      room_(std::min(context_, max_positions_)),
      keeps_prompts_(options.keep_prompts) {
  lent_.reserve(count_);
  free_.reserve(count_);
}

int64_t SlotPool::room_after(const TokenIds& prompt_ids) const {
  if (prompt_ids.empty()) throw Error(Code::REQUEST_INVALID, "the prompt has no tokens, expected at least one.");
  const int64_t room = room_ - static_cast<int64_t>(prompt_ids.size());
  if (room < 1) {
    throw Error(Code::PROMPT_TOO_LONG,
                "the prompt has " + std::to_string(prompt_ids.size()) + " tokens, the context " +
                    std::to_string(room_) + ": no room for a new token. Shorten the request by at least " +
                    std::to_string(1 - room) + " tokens.");
  }
  return room;
}

std::optional<SlotPool::Lent> SlotPool::lend(std::shared_ptr<const TokenIds> prompt, int64_t num_positions) {
  const TokenIds& prompt_ids = *prompt;
  if (static_cast<int64_t>(lent_.size()) == count_ || !fits(num_positions)) return std::nullopt;
  const int64_t num_fixed = prefix_ ? common(prefix_->token_ids, prompt_ids) : 0;
  const Lent wanted = best(prompt_ids, num_positions, num_fixed);
  const Source from = source(prompt_ids);
  if (from.num_coming > from.num_ready && from.num_coming - wanted.num_held >= kWorthWaiting) return std::nullopt;
  make_room(num_positions, wanted.slot);
  // It stays among the free ones, empty, until all is well.
  Free& taken = free_entry(wanted.slot, num_positions);
  fill(taken, prompt_ids, num_fixed);
  if (from.slot != nullptr && from.num_ready > taken.slot->length()) taken.slot->copy(*from.slot, from.num_ready);
  Slot* slot = taken.slot;
  lent_.push_back({slot, num_positions, std::move(prompt)});
  free_.erase(find_free(slot));
  return Lent{slot, slot->length()};
}

// The entry of the wanted slot, or if that was given up of a new one.
SlotPool::Free& SlotPool::free_entry(Slot* wanted, int64_t num_positions) {
  const auto found = find_free(wanted);
  return found != free_.end() ? *found : *find_free(new_slot(num_positions));
}

// Brings a slot to what it holds of a prompt, or to the fixed prefix.
void SlotPool::fill(Free& taken, const TokenIds& prompt_ids, int64_t num_fixed) {
  const TokenIds held = std::move(taken.token_ids);
  taken.token_ids.clear();
  const int64_t num_held = common(held, prompt_ids);
  if (num_held > num_fixed) {
    taken.slot->rewind(num_held);
  } else if (!prefix_) {
    taken.slot->rewind(0);
  } else if (prefix_slot_ == nullptr) {
    taken.slot->restore(prefix_->positions, num_fixed);
  } else {
    taken.slot->borrow(*prefix_slot_, num_fixed);
  }
}

void SlotPool::give_back(Slot* slot, TokenIds token_ids) {
  touched_[slot] = std::max(touched(slot), slot->length());  // it may throw: nothing has changed then
  if (!keeps_prompts_) token_ids.clear();
  token_ids.resize(std::min<size_t>(token_ids.size(), slot->length()));
  lent_.erase(std::find_if(lent_.begin(), lent_.end(), [&](const Loan& loan) { return loan.slot == slot; }));
  free_.push_back({slot, std::move(token_ids)});
}

void SlotPool::clear() {
  free_.clear();
  touched_.clear();
  prefix_slot_ = nullptr;
  slots_.clear();
}

// The free slot that holds most of the prompt, of equal ones the oldest, and how much that is. It is null if none is
// large enough. The fixed part counts for all alike: it comes from the prefix, and is no reason to give up another
// prompt.
SlotPool::Lent SlotPool::best(const TokenIds& prompt_ids, int64_t num_positions, int64_t num_fixed) const {
  Lent found{nullptr, num_fixed};
  for (const Free& free : free_) {
    if (free.slot->capacity() < num_positions) continue;
    const int64_t num_held = std::max(common(free.token_ids, prompt_ids), num_fixed);
    if (found.slot == nullptr || num_held > found.num_held) found = {free.slot, num_held};
  }
  return found;
}

// The lent slot that holds most of the prompt, how much that is, and how much one will hold soon.
SlotPool::Source SlotPool::source(const TokenIds& prompt_ids) const {
  Source found;
  if (!keeps_prompts_) return found;
  for (const Loan& loan : lent_) {
    const int64_t num_coming = common(*loan.prompt_ids, prompt_ids);
    const int64_t num_ready = std::min(num_coming, loan.slot->length());
    found.num_coming = std::max(found.num_coming, num_coming);
    if (found.slot == nullptr || num_ready > found.num_ready) {
      found.slot = loan.slot;
      found.num_ready = num_ready;
    }
  }
  return found;
}

Slot* SlotPool::new_slot(int64_t num_positions) {
  if (!session_.takes_any_mix()) {
    if (static_cast<int64_t>(lent_.size() + free_.size()) == count_) forget(free_.front().slot);  // all too small
    std::unique_ptr<Slot> slot = std::move(session_.new_slots(1, num_positions).front());
    slots_.push_back(std::move(slot));
    free_.push_back({slots_.back().get(), {}});
    return slots_.back().get();
  }
  slots_ = session_.new_slots(static_cast<int>(count_) + 1, context_);
  prefix_slot_ = slots_.front().get();
  if (prefix_) prefix_slot_->restore(prefix_->positions, static_cast<int64_t>(prefix_->token_ids.size()));
  free_.clear();
  for (auto slot = slots_.begin() + 1; slot != slots_.end(); ++slot) free_.push_back({slot->get(), {}});
  return free_.front().slot;
}

std::vector<SlotPool::Free>::iterator SlotPool::find_free(const Slot* slot) {
  return std::find_if(free_.begin(), free_.end(), [&](const Free& free) { return free.slot == slot; });
}

int64_t SlotPool::touched(const Slot* slot) const {
  const auto found = touched_.find(slot);
  return found == touched_.end() ? 0 : found->second;
}

int64_t SlotPool::promised() const {
  int64_t sum = 0;
  for (const Loan& loan : lent_) sum += std::max(loan.num_positions, touched(loan.slot));
  return sum;
}

// Whether so many positions fit beside those that are promised.
bool SlotPool::fits(int64_t num_positions) const {
  const int64_t others = promised();
  return others == 0 || others + num_positions <= max_positions_;
}

// Gives up what is only kept until so many positions fit beside those that are promised. The oldest goes first, and
// last of all what the wanted slot holds.
void SlotPool::make_room(int64_t num_positions, Slot* wanted) {
  const int64_t others = promised();
  std::vector<Slot*> order;
  for (const Free& free : free_) {
    if (free.slot != wanted) order.push_back(free.slot);
  }
  if (wanted != nullptr) order.push_back(wanted);
  for (Slot* slot : order) {
    const int64_t needed = wanted != nullptr ? std::max(num_positions, touched(wanted)) : num_positions;
    int64_t kept = 0;
    for (const Free& free : free_) kept += free.slot == wanted ? 0 : touched(free.slot);
    if (others + needed + kept <= max_positions_) break;
    forget(slot);
  }
}

void SlotPool::forget(Slot* slot) {
  touched_.erase(slot);
  const auto free = find_free(slot);
  if (session_.takes_any_mix()) {
    slot->clear();
    free->token_ids.clear();
    return;
  }
  free_.erase(free);
  slots_.erase(std::find_if(slots_.begin(), slots_.end(), [&](const auto& owned) { return owned.get() == slot; }));
}

}  // namespace rubricrm
