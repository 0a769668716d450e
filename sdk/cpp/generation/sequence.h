// One generation on its way through the engine: what it asked for, what it has, and who waits for more.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "error.h"
#include "generation/clock.h"
#include "generation/completion.h"
#include "generation/constraint.h"
#include "generation/drafting.h"
#include "generation/finish_reason.h"
#include "generation/options.h"
#include "generation/sampling.h"
#include "runtime/session.h"

namespace rubricrm {

// Where a sequence stands; in the order of rubricrm_state.
enum class State {
  WAITING,     // for a slot
  PREFILLING,  // its prompt is computed, chunk by chunk
  DECODING,    // each step decides a token, or several
  FINISHED,
};

// What is asked of the engine.
struct Order {
  TokenIds prompt_ids;
  GenerationOptions options;  // checked
  TokenIds stop_ids;          // that end the text
  bool is_rubric = false;     // whether what follows is a rubric
  // The form that it must have, if options.constrain; null: any. It outlives the sequence.
  const Grammar* grammar = nullptr;
  // Makes text of tokens; null: there is no text, and neither stop strings nor circles end it.
  std::unique_ptr<Completion> completion;
  Time started = Clock::now();  // when the request came in
};

// What holds a sequence, and drafts for it, in an engine.
struct Guides {
  std::unique_ptr<Constraint> constraint;  // null: nothing holds it to a form
  std::unique_ptr<Drafter> drafter;        // null: nothing is drafted
};

// A prompt and the tokens that follow it.
//
// The thread that leads the engine's steps decides tokens, and is the only one to use what is marked `leader`. Any
// thread may read, or end the sequence. What is read is never taken away. The first end stands.
class Sequence {
 public:
  // When the things of a result happened.
  struct Times {
    Time started;
    std::optional<Time> admitted;     // when it got a slot
    std::optional<Time> prefilled;    // when the prompt was computed
    std::optional<Time> first_token;  // when the first token was decided
    std::optional<Time> ended;
  };

  // All that a result is made of.
  struct Outcome {
    std::string text;
    TokenIds token_ids;
    FinishReason finish_reason = FinishReason::NONE;
    std::vector<TokenLogprobs> logprobs;
    std::optional<Overrules> overrules;  // none: nothing held it to a form
    int64_t cached_tokens = 0;
    int64_t drafted_tokens = 0;
    int64_t accepted_tokens = 0;
    Times times;
  };

  // max_new_tokens: most tokens that may follow, at least 1. on_change: is called after each change, in the thread that
  // made it, with no lock of the sequence held.
  Sequence(Order order, int64_t max_new_tokens, Guides guides, std::function<void(const Sequence&)> on_change);
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  // What never changes.
  const TokenIds& prompt_ids() const { return order_.prompt_ids; }
  const TokenIds& stop_ids() const { return order_.stop_ids; }
  const GenerationOptions& options() const { return order_.options; }
  bool is_rubric() const { return order_.is_rubric; }
  uint64_t seed() const { return seed_; }
  std::optional<Time> deadline() const { return deadline_; }

  // For any thread.
  State state() const { return state_.load(std::memory_order_acquire); }
  bool is_finished() const { return state() == State::FINISHED; }
  size_t num_pieces() const;
  std::string piece(size_t index) const;       // one of num_pieces
  Outcome outcome() const;                     // so far; all of it once is_finished
  FinishReason finish_reason() const;          // NONE while it runs, and after an error
  std::optional<Error> error() const;          // what ended it, if it was no reason of its own
  void finish(FinishReason reason);
  void fail(const Error& error);
  bool end_if_due(Time now = Clock::now());    // whether it has ended

  // For the leader.
  const TokenIds& token_ids() const { return token_ids_; }  // but for the one that ended it
  int64_t tokens_left() const { return max_new_tokens_ - static_cast<int64_t>(token_ids_.size()); }
  Constraint* constraint() const { return guides_.constraint.get(); }
  Drafter* drafter() const { return guides_.drafter.get(); }
  void admit(int64_t cached_tokens);  // begins, in a slot that holds the first tokens of the prompt
  void begin_decoding();              // the prompt is computed
  void begin_step(int64_t drafted_tokens);
  // Takes a token that was decided, and whether it is a drafted one that came true; nothing once it has ended.
  void push(int32_t token_id, std::optional<TokenLogprobs> logprobs, bool was_drafted);
  void stop();  // the token that ends the text was decided

 private:
  void end_with(FinishReason reason);
  void take_shortest_way();
  void note_overrules();
  void add_piece(std::string piece);

  Order order_;
  const uint64_t seed_;
  const std::optional<Time> deadline_;
  std::function<void(const Sequence&)> on_change_;
  Guides guides_;
  int64_t max_new_tokens_;  // fewer once a text in a form goes in circles
  TokenIds token_ids_;      // written by the leader, under the lock
  bool goes_in_circles_ = false;

  std::atomic<State> state_{State::WAITING};
  mutable std::mutex mutex_;  // of all below
  std::vector<std::string> pieces_;
  Outcome outcome_;  // but for text and token ids
  std::optional<Error> error_;
};

}  // namespace rubricrm
