// Whose turn it is to step: there is no thread of the library's own, whoever waits drives.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

#include "generation/clock.h"

namespace rubricrm {

// Lets one thread at a time lead: it calls `step` again and again until what it waits for is there. The others sleep;
// one of them leads on when the leader leaves. All methods are safe from any thread.
class Driver {
 public:
  // step: does some work, returns whether there was any. It is never called by two threads at a time. What it throws
  // goes to the thread that leads, and the next one leads on.
  explicit Driver(std::function<bool()> step) : step_(std::move(step)) {}
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // Leads or sleeps until a condition holds, or a time is up while it sleeps or between two steps. The condition is
  // asked for again after notify() with the same key; it must not block, and holds once stop() was called.
  void wait(const void* key, const std::function<bool()>& is_ready, std::optional<Time> deadline);

  // Makes one step, or waits for the end of the one that another thread makes; returns whether that found work. A step
  // that began before the call says nothing about work that came later: if it found none, another one is made.
  bool step_once();

  // Wakes the threads that wait with this key.
  void notify(const void* key);

  // Waits until nobody is inside a step, and calls `last` then, with nobody leading meanwhile.
  void pause(const std::function<void()>& last);

 private:
  struct Waiter {
    const void* key;  // null: of step_once and pause, for the end of a step
    std::condition_variable woken;
  };

  struct Handing;

  void sleep(std::unique_lock<std::mutex>& lock, const void* key, std::optional<Time> deadline);
  bool lead(std::unique_lock<std::mutex>& lock);
  void end_step(std::unique_lock<std::mutex>& lock, bool found_work);
  void hand_over();

  const std::function<bool()> step_;
  std::mutex mutex_;
  bool is_led_ = false;
  uint64_t num_begun_ = 0;  // steps; at most one more than have ended
  uint64_t num_ended_ = 0;
  bool last_found_work_ = false;
  std::list<Waiter*> waiters_;
};

}  // namespace rubricrm
