#include "generation/scheduler.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace rubricrm {
namespace {

// Most tokens of all prompts together in a step in which others decode: a long prompt takes several steps, so that the
// others never wait long for their next token.
constexpr int64_t kMixedRows = 64;

}  // namespace

Scheduler::Scheduler(SlotPool& slots, int64_t max_rows, int64_t max_waiting, Drafts* drafts)
    : slots_(slots), drafts_(drafts), max_rows_(max_rows), max_waiting_(max_waiting) {
  // A slot that is lent is written down without an allocation that could fail.
  running_.reserve(slots_.count());
}

void Scheduler::add(std::shared_ptr<Sequence> sequence) {
  if (is_full()) {
    for (auto entry = waiting_.begin(); entry != waiting_.end();) {
      entry = entry->second->is_finished() ? waiting_.erase(entry) : std::next(entry);
    }
  }
  if (is_full()) {
    throw Error(Code::ENGINE_BUSY,
                std::to_string(waiting_.size()) +
                    " requests wait already, which is the limit. Send fewer at once, try again later, or open the "
                    "model with a larger max_waiting.");
  }
  deadlines_.add(sequence);
  const Place place{-static_cast<int64_t>(sequence->options().priority), arrivals_++};
  waiting_.emplace(place, std::move(sequence));
}

std::vector<Work> Scheduler::schedule() {
  retire();
  admit();
  std::vector<Running*> decoding;
  for (Running& running : running_) {
    if (running.sequence->state() == State::DECODING) decoding.push_back(&running);
  }
  const int64_t rows = max_rows_ - static_cast<int64_t>(decoding.size());
  std::vector<Work> prompts = prefill(decoding.empty() ? rows : std::min(rows, kMixedRows));
  int64_t prompt_rows = 0;
  for (const Work& work : prompts) prompt_rows += static_cast<int64_t>(work.chunk.token_ids.size());
  std::vector<Work> works = decode(decoding, prompt_rows);
  std::move(prompts.begin(), prompts.end(), std::back_inserter(works));
  return works;
}

std::shared_ptr<Sequence> Scheduler::unfinished() const {
  for (const Running& running : running_) {
    if (!running.sequence->is_finished()) return running.sequence;
  }
  return nullptr;
}

void Scheduler::retire() {
  for (auto running = running_.begin(); running != running_.end();) {
    if (!running->sequence->is_finished()) {
      ++running;
      continue;
    }
    const std::shared_ptr<Sequence> ended = running->sequence;
    TokenIds token_ids = ended->prompt_ids();
    token_ids.insert(token_ids.end(), ended->token_ids().begin(), ended->token_ids().end());
    slots_.give_back(running->slot, std::move(token_ids));
    running = running_.erase(running);
    if (drafts_ != nullptr) drafts_->learn(*ended);
  }
}

// Lends slots to those that wait, until there is none for the first of them.
void Scheduler::admit() {
  while (!waiting_.empty()) {
    const std::shared_ptr<Sequence> sequence = waiting_.begin()->second;
    if (!sequence->is_finished()) {
      const std::shared_ptr<const TokenIds> prompt_ids(sequence, &sequence->prompt_ids());
      const int64_t num_positions = static_cast<int64_t>(prompt_ids->size()) + sequence->tokens_left();
      const auto lent = slots_.lend(prompt_ids, num_positions);
      if (!lent) return;
      running_.push_back({sequence, lent->slot});
      sequence->admit(lent->num_held);
    }
    waiting_.erase(waiting_.begin());
  }
}

// The next parts of prompts, at most so many rows together.
std::vector<Work> Scheduler::prefill(int64_t rows) const {
  std::vector<Work> works;
  for (const Running& running : running_) {
    if (running.sequence->state() != State::PREFILLING || rows <= 0) continue;
    const TokenIds& prompt_ids = running.sequence->prompt_ids();
    const auto start = prompt_ids.begin() + running.slot->length();
    const auto end = start + std::min<int64_t>(rows, prompt_ids.end() - start);
    const int num_logits = end == prompt_ids.end() ? 1 : 0;
    works.push_back({running.sequence, Chunk{running.slot, TokenIds(start, end), num_logits}, {}});
    rows -= end - start;
  }
  return works;
}

// The newest token of each, whose keys and values are not computed yet, and drafts where they pay.
std::vector<Work> Scheduler::decode(const std::vector<Running*>& decoding, int64_t prompt_rows) {
  std::vector<PricedDraft> drafts(decoding.size());
  if (drafts_ != nullptr && !decoding.empty()) {
    std::vector<Sequence*> sequences;
    for (const Running* running : decoding) sequences.push_back(running->sequence.get());
    const int64_t rows_left = max_rows_ - prompt_rows - static_cast<int64_t>(decoding.size());
    drafts = drafts_->propose(sequences, rows_left, prompt_rows);
  }
  std::vector<Work> works;
  for (size_t i = 0; i < decoding.size(); ++i) {
    TokenIds token_ids{decoding[i]->sequence->token_ids().back()};
    const TokenIds& drafted = drafts[i].token_ids;
    token_ids.insert(token_ids.end(), drafted.begin(), drafted.end());
    const int num_logits = static_cast<int>(token_ids.size());
    Chunk chunk{decoding[i]->slot, std::move(token_ids), num_logits};
    works.push_back({decoding[i]->sequence, std::move(chunk), std::move(drafts[i])});
  }
  return works;
}

}  // namespace rubricrm
