// Slots for sequences: lent with as much of their prompt as is at hand, and kept for the next that begins alike.
#pragma once

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "generation/engine_options.h"
#include "runtime/session.h"

namespace rubricrm {

// The tokens that begin every prompt, and their keys and values.
struct FixedPrefix {
  TokenIds token_ids;
  Positions positions;  // whose memory outlives the pool
};

// Lends up to max_concurrency slots. Not safe from several threads: the engine holds a lock.
//
// A slot that comes back keeps what it holds until another sequence needs it: a second request that begins as an
// earlier one (a retry, a vote, another question about the same long text) computes only what differs. What a prompt has
// in common with the fixed prefix is never computed. It is copied once into each slot, or not at all where all may borrow
// it from a slot of its own.
//
// What another sequence has computed is copied while that one still runs. What it is just computing is waited for: of
// several votes on one prompt, the first one computes it.
class SlotPool {
 public:
  struct Lent {
    Slot* slot;
    int64_t num_held;  // of the prompt's tokens
  };

  // Allocates nothing yet. The session outlives the pool.
  SlotPool(Session& session, int64_t context_length, std::optional<FixedPrefix> prefix, const EngineOptions& options);

  // Most slots.
  int64_t count() const { return count_; }

  // Most positions of one slot.
  int64_t room() const { return room_; }

  // How many tokens may follow a prompt. PROMPT_TOO_LONG: none may. REQUEST_INVALID: the prompt is empty.
  int64_t room_after(const TokenIds& prompt_ids) const;

  // A slot with room for so many positions, and how many of the prompt's tokens it holds already: never the last one,
  // whose logits are wanted. None while other sequences hold what is needed, or compute what this prompt begins with.
  // RUNTIME_FAILED, MODEL_CLOSED. Nothing is lent if it throws.
  std::optional<Lent> lend(std::shared_ptr<const TokenIds> prompt_ids, int64_t num_positions);

  // Takes a slot back, and what tokens it holds. It is still lent if memory runs out for that.
  void give_back(Slot* slot, TokenIds token_ids);

  // Frees all slots; none is lent.
  void clear();

 private:
  struct Loan {
    Slot* slot;
    int64_t num_positions;  // that are promised to it
    std::shared_ptr<const TokenIds> prompt_ids;
  };
  struct Free {
    Slot* slot;
    TokenIds token_ids;  // that it holds
  };
  struct Source {
    Slot* slot = nullptr;
    int64_t num_ready = 0;
    int64_t num_coming = 0;
  };

  Lent best(const TokenIds& prompt_ids, int64_t num_positions, int64_t num_fixed) const;
  Source source(const TokenIds& prompt_ids) const;
  Slot* new_slot(int64_t num_positions);
  Free& free_entry(Slot* wanted, int64_t num_positions);
  void fill(Free& taken, const TokenIds& prompt_ids, int64_t num_fixed);
  std::vector<Free>::iterator find_free(const Slot* slot);
  int64_t touched(const Slot* slot) const;
  int64_t promised() const;
  bool fits(int64_t num_positions) const;
  void make_room(int64_t num_positions, Slot* wanted);
  void forget(Slot* slot);

  Session& session_;
  std::optional<FixedPrefix> prefix_;
  int64_t context_;
  int64_t count_;
  int64_t max_positions_;
  int64_t room_;
  bool keeps_prompts_;
  Slot* prefix_slot_ = nullptr;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Loan> lent_;  // in the order of lending; it has room for all, as the next one has
  std::vector<Free> free_;  // the one used last at the end
  std::unordered_map<const Slot*, int64_t> touched_;  // positions whose memory is in use, whatever they hold
};

}  // namespace rubricrm
