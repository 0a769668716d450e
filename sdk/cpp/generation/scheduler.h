// Who is computed next: the queue of those that wait for a slot, and what the next step computes of the others.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "generation/deadlines.h"
#include "generation/drafts.h"
#include "generation/sequence.h"
#include "generation/slot_pool.h"

namespace rubricrm {

// What a step computes for one sequence.
struct Work {
  std::shared_ptr<Sequence> sequence;
  Chunk chunk;  // the next tokens of its prompt; or its last token, and the draft of those that may follow
  PricedDraft draft;
};

// Admits sequences by priority, then by arrival. Not safe from several threads: the engine holds a lock.
//
// A row is a token that a step computes. A step has max_rows: one for each sequence that decodes, the next ones for
// parts of prompts in the order of admission, what is left for drafts. So nobody that decodes waits for a newcomer's
// whole prompt, and nobody that waits is overtaken by a later one of its priority.
class Scheduler {
 public:
  using Place = std::pair<int64_t, uint64_t>;  // of the queue: lower priority, later arrival last
  using Queue = std::map<Place, std::shared_ptr<Sequence>>;

  // drafts: null: nothing is drafted. Slots and drafts outlive the scheduler.
  Scheduler(SlotPool& slots, int64_t max_rows, int64_t max_waiting, Drafts* drafts);

  // Whether the queue is as long as it may be. It may hold some that have ended: add() looks for those first.
  bool is_full() const { return static_cast<int64_t>(waiting_.size()) >= max_waiting_; }

  // Lets a sequence wait for a slot. ENGINE_BUSY: as many others wait as may.
  void add(std::shared_ptr<Sequence> sequence);

  // Those whose time is up, once.
  std::vector<std::shared_ptr<Sequence>> take_due() { return deadlines_.take_due(); }

  // Takes back the slots of who has ended, admits who waits, and returns the work of the next step, if any.
  std::vector<Work> schedule();

  // Takes back the slots of who has ended.
  void retire();

  // Those that wait, in their order, which wait no more. It allocates nothing, nor does the next one.
  Queue take_waiting() { return std::exchange(waiting_, {}); }

  // The first of those that run and have not ended; null: none.
  std::shared_ptr<Sequence> unfinished() const;

 private:
  struct Running {
    std::shared_ptr<Sequence> sequence;
    Slot* slot;
  };

  void admit();
  std::vector<Work> prefill(int64_t rows) const;
  std::vector<Work> decode(const std::vector<Running*>& decoding, int64_t prompt_rows);

  SlotPool& slots_;
  Drafts* drafts_;
  int64_t max_rows_;
  int64_t max_waiting_;
  uint64_t arrivals_ = 0;
  Queue waiting_;
  std::vector<Running> running_;  // in the order of admission; it has room for all slots, and never grows
  Deadlines deadlines_;
};

}  // namespace rubricrm
