// A small deterministic model in the place of ONNX Runtime: its logits depend on every token that a slot really holds,
// so that any mistake with slots changes what follows.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "error.h"
#include "runtime/session.h"

namespace rubricrm {

constexpr int32_t kEnd = 2;           // ends a text
constexpr int32_t kPoison = 13;       // a prompt that holds it, twice, gives NaN after its eighth new token
constexpr int64_t kFakeTokens = 48;   // of the tokenizer
constexpr int64_t kFakeVocab = 50;    // two rows are padding
constexpr int64_t kFakeContext = 512;

// A broken contract ends the test: it would be a wrong memory access in a real session.
inline void require(bool condition, const char* what) {
  if (condition) return;
  std::printf("the engine broke the session's contract: %s\n", what);
  std::abort();
}

class FakeSlot : public Slot {
 public:
  explicit FakeSlot(int64_t capacity) : capacity_(capacity) {}

  int64_t length() const override { return static_cast<int64_t>(own_.size()); }
  int64_t capacity() const override { return capacity_; }

  void borrow(const Slot& base, int64_t length) override {
    const auto& from = static_cast<const FakeSlot&>(base);
    require(length <= from.length() && from.base_length_ == 0, "borrows what is not there, or is borrowed itself");
    base_ = &from;
    base_length_ = length;
    own_.assign(length, -1);  // what the base holds is read from it
  }

  void restore(const Positions& positions, int64_t length) override {
    require(length <= positions.num_tokens && length <= capacity_, "restores more than there is");
    const auto* tokens = static_cast<const int32_t*>(positions.data);
    own_.assign(tokens, tokens + length);
    base_length_ = 0;
  }

  void copy(const Slot& source, int64_t length) override {
    const auto& from = static_cast<const FakeSlot&>(source);
    require(length <= from.length() && length <= capacity_ && from.base_length_ <= this->length(), "copies wrongly");
    require(length > this->length(), "copies nothing");
    own_.insert(own_.end(), from.own_.begin() + this->length(), from.own_.begin() + length);
  }

  void clear() override {
    own_.clear();
    base_length_ = 0;
  }

  void rewind(int64_t length) override {
    require(length >= 0, "rewinds below zero");
    if (length < this->length()) own_.resize(length);
    base_length_ = std::min(base_length_, length);
  }

  void append(int32_t token_id) {
    own_.push_back(token_id);
    require(length() <= capacity_, "writes beyond a slot");
  }

  int32_t token(int64_t position) const { return position < base_length_ ? base_->own_[position] : own_[position]; }

 private:
  int64_t capacity_;
  TokenIds own_;
  const FakeSlot* base_ = nullptr;
  int64_t base_length_ = 0;
};

// Logits after some tokens.
inline std::vector<float> fake_logits(const std::vector<int32_t>& tokens) {
  uint64_t state = 1469598103934665603ull;
  int poisons = 0;
  int64_t after_poison = 0;
  for (const int32_t token : tokens) {
    state = (state ^ static_cast<uint64_t>(token)) * 1099511628211ull;
    if (poisons >= 2) ++after_poison;
    poisons += token == kPoison;
  }
  std::vector<float> logits(kFakeVocab);
  for (int64_t i = 0; i < kFakeVocab; ++i) {
    uint64_t z = state + (i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    logits[i] = static_cast<float>((z ^ (z >> 31)) >> 40) / 4e6f;
  }
  logits[kPoison] = -20;  // only prompts hold it
  if (poisons >= 2 && after_poison >= 8) logits[7] = std::numeric_limits<float>::quiet_NaN();
  for (int64_t i = kFakeTokens; i < kFakeVocab; ++i) logits[i] = 100;  // padding, which must never win
  return logits;
}

struct FakeOptions {
  int max_rows = 64;
  bool takes_any_mix = true;
};

class FakeSession : public Session {
 public:
  // What tests look at, and change, from outside: it outlives the session.
  struct Log {
    std::mutex mutex;
    std::vector<std::vector<int>> steps;  // tokens of each chunk of each step
    int num_slots = 0;
    std::atomic<bool> is_closed{false};
    std::function<void()> before_step = [] {};
  };

  FakeSession(FakeOptions options, std::shared_ptr<Log> log) : options_(options), log_(std::move(log)) {}

  int max_rows() const override { return options_.max_rows; }
  bool takes_any_mix() const override { return options_.takes_any_mix; }
  bool is_exact() const override { return true; }
  int64_t position_bytes() const override { return 10; }

  std::vector<std::unique_ptr<Slot>> new_slots(int count, int64_t num_positions) override {
    check_open();
    std::vector<std::unique_ptr<Slot>> slots;
    const int64_t capacity = std::min((num_positions + 127) / 128 * 128, kFakeContext);
    for (int i = 0; i < count; ++i) slots.push_back(std::make_unique<FakeSlot>(capacity));
    const std::lock_guard lock(log_->mutex);
    log_->num_slots += count;
    return slots;
  }

  std::vector<Logits> step(const std::vector<Chunk>& chunks) override {
    require(!is_stepping_.exchange(true), "two steps at a time");
    const std::shared_ptr<void> stepping(nullptr, [this](void*) { is_stepping_ = false; });
    check_step(chunks);
    check_open();
    log_->before_step();
    check_open();
    rows_.clear();
    std::vector<Logits> found;
    for (const Chunk& chunk : chunks) found.push_back(run(chunk));
    for (size_t i = 0; i < found.size(); ++i) found[i].data = rows_[i].data();
    return found;
  }

  void close() override { log_->is_closed = true; }
  void check_open() const override {
    if (log_->is_closed) throw Error(Code::MODEL_CLOSED, "fake: the model was closed. Open it again.");
  }

 private:
  void check_step(const std::vector<Chunk>& chunks) {
    std::vector<int> counts;
    std::set<Slot*> slots;
    int total = 0;
    for (const Chunk& chunk : chunks) {
      counts.push_back(static_cast<int>(chunk.token_ids.size()));
      total += counts.back();
      slots.insert(chunk.slot);
      require(counts.back() > 0 && chunk.num_logits <= counts.back(), "a chunk without tokens, or of too many rows");
    }
    require(!chunks.empty() && total <= options_.max_rows && slots.size() == chunks.size(), "too many rows in a step");
    const std::lock_guard lock(log_->mutex);
    log_->steps.push_back(counts);
  }

  Logits run(const Chunk& chunk) {
    auto& slot = static_cast<FakeSlot&>(*chunk.slot);
    for (const int32_t token_id : chunk.token_ids) slot.append(token_id);
    std::vector<float> rows;
    for (int i = chunk.num_logits; i > 0; --i) {
      std::vector<int32_t> tokens;
      for (int64_t position = 0; position <= slot.length() - i; ++position) tokens.push_back(slot.token(position));
      const std::vector<float> row = fake_logits(tokens);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    rows_.push_back(std::move(rows));
    return {nullptr, chunk.num_logits, kFakeVocab};
  }

  FakeOptions options_;
  std::shared_ptr<Log> log_;
  std::atomic<bool> is_stepping_{false};
  std::vector<std::vector<float>> rows_;
};

}  // namespace rubricrm
