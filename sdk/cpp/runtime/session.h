// What computes: slots for sequences, and steps that append tokens to them. The same contract as
// rubricrm/runtime/session.py and slot.py; implemented over ONNX Runtime by onnx_session.h, and by tests.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/token_ids.h"

namespace rubricrm {

// Keys and values of the first tokens of a sequence, as a prefix file holds them. They must stay what and where they are
// as long as slots that were restored from them: a slot copies no position twice that it still holds.
struct Positions {
  const void* data;       // [layers, 2, 1, kv_heads, num_tokens, head_dim] of the session's KV type; not owned
  int64_t num_tokens;
};

// Room for one sequence. A slot belongs to its session, and is used by one thread at a time.
class Slot {
 public:
  virtual ~Slot() = default;

  virtual int64_t length() const = 0;    // positions that hold a token
  virtual int64_t capacity() const = 0;  // most positions

  // Begins a sequence with the first `length` positions of another slot of the same call of new_slots: nothing is
  // copied. They must stay what they are meanwhile, and not be borrowed themselves. Only where takes_any_mix.
  virtual void borrow(const Slot& base, int64_t length) = 0;
  // Begins a sequence with a copy of the first `length` of some positions.
  virtual void restore(const Positions& positions, int64_t length) = 0;
  // Appends a copy of another slot's positions, up to `length`: ones that it does not borrow, after the same tokens.
  virtual void copy(const Slot& source, int64_t length) = 0;
  // Forgets everything, and makes the memory zero: after a run whose numbers were none.
  virtual void clear() = 0;
  // Forgets all positions from `length` on, borrowed ones too.
  virtual void rewind(int64_t length) = 0;
};

// Tokens of one slot that a step appends.
struct Chunk {
  Slot* slot;
  TokenIds token_ids;  // at least one
  int num_logits;      // after how many of its last tokens logits are wanted, maybe none
};

// Logits of one chunk, [rows, vocab_size]. They lie in the session's memory until its next step.
struct Logits {
  const float* data;
  int rows;
  int64_t vocab_size;
  const float* row(int index) const { return data + index * vocab_size; }
};

// An open graph. One step at a time; close() may come from any thread.
class Session {
 public:
  virtual ~Session() = default;

  virtual int max_rows() const = 0;          // most tokens of one step
  virtual bool takes_any_mix() const = 0;    // one run takes tokens of several slots; else a run for each chunk
  virtual bool is_exact() const = 0;         // a token's logits are the same bits whatever else is in the step
  virtual int64_t position_bytes() const = 0;  // bytes of keys and values of one position

  // Slots for at least `num_positions` tokens each, the context at most. RUNTIME_FAILED, MODEL_CLOSED.
  virtual std::vector<std::unique_ptr<Slot>> new_slots(int count, int64_t num_positions) = 0;

  // Appends tokens to several slots, each chunk another slot's, together at most max_rows tokens. The logits may be no
  // numbers. RUNTIME_FAILED; MODEL_CLOSED where close() came meanwhile.
  virtual std::vector<Logits> step(const std::vector<Chunk>& chunks) = 0;

  // Frees the graph; a step in progress ends at its next operator with MODEL_CLOSED. Closing twice is fine.
  virtual void close() = 0;
  // Throws MODEL_CLOSED if it was closed, or opened before this process was forked.
  virtual void check_open() const = 0;
};

}  // namespace rubricrm
