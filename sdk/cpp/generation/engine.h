// The engine: any number of requests, one step after the other, each step a few tokens of many sequences.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "generation/driver.h"
#include "generation/drafts.h"
#include "generation/engine_options.h"
#include "generation/sampling.h"
#include "generation/scheduler.h"
#include "generation/sequence.h"
#include "generation/slot_pool.h"
#include "runtime/session.h"

namespace rubricrm {

// What an engine has to know of the bundle that its session has open.
struct EngineFacts {
  std::string path;        // for messages
  int64_t context_length;  // most positions of a sequence
  int64_t num_tokens;      // of the tokenizer: ids from here on are padding, and never chosen
  int64_t max_new_tokens;  // where a request does not say
};

// Runs sequences on one session. Its methods are safe from any thread.
//
// A sequence waits for a slot, has its prompt computed chunk by chunk, and then gets at least one token from each step
// until it ends. Steps are made by the threads that wait: see driver.h.
class Engine {
 public:
  // Takes no memory for slots yet. session: what computes; it is closed with the engine. prefix: keys and values that
  // prompts begin with. drafts: null: nothing is drafted.
  Engine(std::unique_ptr<Session> session, EngineFacts facts, std::optional<FixedPrefix> prefix,
         const EngineOptions& options, std::unique_ptr<Drafts> drafts);
  ~Engine();  // closes; no thread is inside any method
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Checks that a prompt fits, and lets it be computed. New tokens are limited to what there is room for. It takes no
  // longer than a step of the scheduler. PROMPT_TOO_LONG, ENGINE_BUSY, MODEL_CLOSED.
  std::shared_ptr<Sequence> submit(Order order);

  // Waits until a condition holds that new tokens, text or the end of a sequence may bring about; returns at the end
  // anyway. The condition must not block. Its timeout is kept to within one step.
  void wait(Sequence& sequence, const std::function<bool()>& is_ready);

  // As Driver::step_once: returns whether there was anything to compute. MODEL_CLOSED.
  bool step();

  // Ends every sequence with MODEL_CLOSED, and frees slots and session. A step in progress ends at its next operator,
  // and is waited for. Closing twice is fine.
  void close();

  // Throws MODEL_CLOSED if it was closed, or made before this process was forked. It takes no lock.
  void check_open() const { session_->check_open(); }

 private:
  bool lead_step() noexcept;
  bool run_step();
  void hand_out(const Work& work, const Logits& logits);
  void end_due();
  void fail_all(const Error& error) noexcept;

  const std::unique_ptr<Session> session_;
  const EngineFacts facts_;
  const Error out_of_memory_;  // made while there is some
  const std::unique_ptr<Drafts> drafts_;
  std::mutex mutex_;  // of slots and scheduler
  SlotPool slots_;
  Scheduler scheduler_;
  Sampler sampler_;  // of the leader
  Driver driver_;
};

}  // namespace rubricrm
