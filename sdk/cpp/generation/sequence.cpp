#include "generation/sequence.h"

#include <random>
#include <utility>

namespace rubricrm {
namespace {

uint64_t drawn_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

std::optional<Time> deadline_of(const Order& order) {
  // A century is longer than any process, and still a number of the clock.
  constexpr double kNever = 3e9;
  const std::optional<double> timeout = order.options.timeout_s;
  if (!timeout || *timeout > kNever) return std::nullopt;
  return order.started + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*timeout));
}

}  // namespace

Sequence::Sequence(Order order, int64_t max_new_tokens, Guides guides, std::function<void(const Sequence&)> on_change)
    : order_(std::move(order)),
      seed_(order_.options.seed ? *order_.options.seed : drawn_seed()),
      deadline_(deadline_of(order_)),
      on_change_(std::move(on_change)),
      guides_(std::move(guides)),
      max_new_tokens_(max_new_tokens) {
  outcome_.times.started = order_.started;
  note_overrules();
}

size_t Sequence::num_pieces() const {
  const std::lock_guard lock(mutex_);
  return pieces_.size();
}

std::string Sequence::piece(size_t index) const {
  const std::lock_guard lock(mutex_);
  return pieces_[index];
}

Sequence::Outcome Sequence::outcome() const {
  const std::lock_guard lock(mutex_);
  Outcome found = outcome_;
  found.token_ids = token_ids_;
  for (const std::string& piece : pieces_) found.text += piece;
  return found;
}

FinishReason Sequence::finish_reason() const {
  const std::lock_guard lock(mutex_);
  return outcome_.finish_reason;
}

std::optional<Error> Sequence::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void Sequence::finish(FinishReason reason) {
  {
    const std::lock_guard lock(mutex_);
    if (is_finished()) return;
    end_with(reason);
  }
  on_change_(*this);
}

void Sequence::fail(const Error& error) {
  {
    const std::lock_guard lock(mutex_);
    if (is_finished()) return;
    error_ = error;
    outcome_.times.ended = Clock::now();
    state_.store(State::FINISHED, std::memory_order_release);
  }
  on_change_(*this);
}

bool Sequence::end_if_due(Time now) {
  if (deadline_ && *deadline_ <= now) finish(FinishReason::TIMEOUT);
  return is_finished();
}

void Sequence::admit(int64_t cached_tokens) {
  const std::lock_guard lock(mutex_);
  if (is_finished()) return;
  outcome_.cached_tokens = cached_tokens;
  outcome_.times.admitted = Clock::now();
  state_.store(State::PREFILLING, std::memory_order_release);
}

void Sequence::begin_decoding() {
  const std::lock_guard lock(mutex_);
  if (is_finished()) return;
  outcome_.times.prefilled = Clock::now();
  state_.store(State::DECODING, std::memory_order_release);
}

void Sequence::begin_step(int64_t drafted_tokens) {
  const std::lock_guard lock(mutex_);
  if (!is_finished()) outcome_.drafted_tokens += drafted_tokens;
}

void Sequence::push(int32_t token_id, std::optional<TokenLogprobs> logprobs, bool was_drafted) {
  {
    const std::lock_guard lock(mutex_);
    if (is_finished()) return;
    if (!outcome_.times.first_token) outcome_.times.first_token = Clock::now();
    token_ids_.push_back(token_id);
    if (guides_.drafter) guides_.drafter->push(token_id);
    if (logprobs) outcome_.logprobs.push_back(std::move(*logprobs));
    note_overrules();
    FinishReason reason = tokens_left() == 0 ? FinishReason::LENGTH : FinishReason::NONE;
    if (order_.completion) {
      Completion::Step step = order_.completion->push(token_id);
      // The limit goes before a circle, and a stop string before both.
      if (step.reason == FinishReason::STOP || reason == FinishReason::NONE) reason = step.reason;
      add_piece(std::move(step.text));
    }
    if (reason == FinishReason::REPETITION && guides_.constraint) {
      take_shortest_way();
    } else if (reason != FinishReason::NONE) {
      end_with(reason);
    }
    if (was_drafted && !is_finished()) ++outcome_.accepted_tokens;
  }
  on_change_(*this);
}

void Sequence::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (is_finished()) return;
    note_overrules();
    end_with(FinishReason::STOP);
  }
  on_change_(*this);
}

// Leaves room for nothing but a whole end: a form is never cut.
void Sequence::take_shortest_way() {
  if (goes_in_circles_) return;
  goes_in_circles_ = true;
  max_new_tokens_ = static_cast<int64_t>(token_ids_.size()) + guides_.constraint->shortest();
}

// Readers must not look at the constraint, which the leader changes.
void Sequence::note_overrules() {
  if (guides_.constraint) outcome_.overrules = guides_.constraint->overrules();
}

void Sequence::add_piece(std::string piece) {
  if (!piece.empty()) pieces_.push_back(std::move(piece));
}

void Sequence::end_with(FinishReason reason) {
  if (reason == FinishReason::STOP && goes_in_circles_) reason = FinishReason::REPETITION;
  if (order_.completion) {
    Completion::End end = order_.completion->finish(reason == FinishReason::STOP);
    if (end.found_stop) reason = FinishReason::STOP;
    add_piece(std::move(end.text));
  }
  outcome_.finish_reason = reason;
  outcome_.times.ended = Clock::now();
  state_.store(State::FINISHED, std::memory_order_release);
}

}  // namespace rubricrm
