#include "generation/engine.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "generation/row_decision.h"

namespace rubricrm {
namespace {

std::unique_ptr<Constraint> constraint_of(const Order& order, int64_t max_new_tokens) {
  return order.options.constrain ? constrain(order.grammar, max_new_tokens) : nullptr;
}

Error own_fault(const char* what) {
  return Error(Code::RUNTIME_FAILED,
               std::string("a step of the engine failed: ") + what + ". It is rubricrm's fault: please report it.");
}

// What is being handled, as an error: only inside a catch clause.
Error current_error(const Error& out_of_memory) noexcept {
  try {
    try {
      throw;
    } catch (const Error& error) {
      return error;
    } catch (const std::bad_alloc&) {
      return out_of_memory;
    } catch (const std::exception& error) {
      return own_fault(error.what());
    } catch (...) {
      return own_fault("something was thrown that is no exception of the standard library");
    }
  } catch (...) {
    return out_of_memory;  // for the message
  }
}

}  // namespace

Engine::Engine(std::unique_ptr<Session> session, EngineFacts facts, std::optional<FixedPrefix> prefix,
               const EngineOptions& options, std::unique_ptr<Drafts> drafts)
    : session_(std::move(session)),
      facts_(std::move(facts)),
      out_of_memory_(Code::RUNTIME_FAILED,
                     "a step of the engine failed: memory ran out. Ask for less at once (max_concurrency, max_memory), "
                     "or run where there is more."),
      drafts_(std::move(drafts)),
      slots_(*session_, facts_.context_length, std::move(prefix), options),
      scheduler_(slots_, session_->max_rows(), options.max_waiting, drafts_.get()),
      driver_([this] { return lead_step(); }) {}

Engine::~Engine() {
  try {
    close();
  } catch (...) {  // memory ran out: the members free what they have
  }
}

std::shared_ptr<Sequence> Engine::submit(Order order) {
  check_open();  // before any lock: in a fork, whoever held it may not exist
  const int64_t wanted = order.options.max_new_tokens ? *order.options.max_new_tokens : facts_.max_new_tokens;
  const int64_t max_new_tokens = std::min(wanted, slots_.room_after(order.prompt_ids));
  Guides guides{constraint_of(order, max_new_tokens), nullptr};
  if (drafts_) guides.drafter = drafts_->drafter(order.prompt_ids, order.is_rubric);
  // The sequence may outlive the engine, but it has ended then, and changes no more.
  const auto on_change = [this](const Sequence& changed) { driver_.notify(&changed); };
  const auto sequence = std::make_shared<Sequence>(std::move(order), max_new_tokens, std::move(guides), on_change);
  end_due();  // their places in the queue are free
  const std::lock_guard lock(mutex_);
  check_open();  // again: close() may have ended all sequences meanwhile, and not this one
  scheduler_.add(sequence);
  return sequence;
}

void Engine::wait(Sequence& sequence, const std::function<bool()>& is_ready) {
  driver_.wait(&sequence, [&] { return sequence.is_finished() || is_ready(); }, sequence.deadline());
  if (!is_ready()) sequence.end_if_due();
}

bool Engine::step() {
  check_open();
  return driver_.step_once();
}

// A step whose failure ends everything: a slot could not be made, or something threw what it should not.
bool Engine::lead_step() noexcept {
  try {
    return run_step();
  } catch (...) {
    fail_all(current_error(out_of_memory_));
    return true;
  }
}

// Computes what the scheduler chooses; returns whether there was anything.
bool Engine::run_step() {
  end_due();
  std::vector<Work> works;
  {
    const std::lock_guard lock(mutex_);
    works = scheduler_.schedule();
  }
  if (works.empty()) return false;
  std::vector<Chunk> chunks;
  for (const Work& work : works) chunks.push_back(work.chunk);
  std::vector<Logits> logits;
  try {
    logits = session_->step(chunks);
  } catch (const Error& error) {
    for (const Work& work : works) work.sequence->fail(error);
    return true;
  }
  for (size_t i = 0; i < works.size(); ++i) hand_out(works[i], logits[i]);
  return true;
}

// Gives a sequence what a step has computed for it.
void Engine::hand_out(const Work& work, const Logits& logits) {
  if (work.chunk.num_logits == 0) return;  // a part of a prompt, not the last one
  Sequence& sequence = *work.sequence;
  TokenIds best;
  try {
    best = best_tokens(work.chunk, logits, facts_.num_tokens, facts_.path);
  } catch (const Error& error) {
    sequence.fail(error);
    return;
  }
  if (sequence.state() == State::PREFILLING) sequence.begin_decoding();
  int64_t num_accepted = 0;
  try {
    num_accepted = decide(sequence, sampler_, logits, best, work.draft.token_ids, facts_.num_tokens);
  } catch (...) {
    work.chunk.slot->clear();  // nobody knows any more which of its tokens were decided
    throw;
  }
  // Keys and values of refused drafts go. The newest token is computed by the next step.
  const int64_t num_written = std::max<int64_t>(0, static_cast<int64_t>(sequence.token_ids().size()) - 1);
  work.chunk.slot->rewind(static_cast<int64_t>(sequence.prompt_ids().size()) + num_written);
  if (drafts_) drafts_->settle(sequence, work.draft, num_accepted);
}

// Ends what is out of time.
void Engine::end_due() {
  std::vector<std::shared_ptr<Sequence>> due;
  {
    const std::lock_guard lock(mutex_);
    due = scheduler_.take_due();
  }
  for (const auto& sequence : due) sequence->end_if_due();
}

// It allocates nothing, so that it does its work when memory has run out. Sequences end outside the lock, since that
// wakes who waits for them.
void Engine::fail_all(const Error& error) noexcept {
  Scheduler::Queue waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting = scheduler_.take_waiting();
  }
  const auto next = [this] {
    const std::lock_guard lock(mutex_);
    return scheduler_.unfinished();
  };
  while (const auto sequence = next()) sequence->fail(error);
  for (const auto& [place, sequence] : waiting) sequence->fail(error);
}

void Engine::close() {
  const Error closed(Code::MODEL_CLOSED, "the model was closed. Open it again.");
  session_->close();
  fail_all(closed);
  driver_.pause([this] {
    const std::lock_guard lock(mutex_);
    scheduler_.retire();  // all have ended
    slots_.clear();
  });
}

}  // namespace rubricrm
