#include "generation/driver.h"

namespace rubricrm {

void Driver::wait(const void* key, const std::function<bool()>& is_ready, std::optional<Time> deadline) {
  std::unique_lock lock(mutex_);
  while (!is_ready() && !(deadline && *deadline <= Clock::now())) {
    if (is_led_) {
      sleep(lock, key, deadline);
    } else {
      lead(lock);
    }
  }
  hand_over();
}

bool Driver::step_once() {
  std::unique_lock lock(mutex_);
  if (!is_led_) {
    const bool found_work = lead(lock);
    hand_over();
    return found_work;
  }
  const uint64_t step = num_steps_;
  while (num_steps_ == step && is_led_) sleep(lock, nullptr, std::nullopt);
  return last_found_work_;
}

void Driver::notify(const void* key) {
  const std::lock_guard lock(mutex_);
  for (Waiter* waiter : waiters_) {
    if (waiter->key == key) waiter->woken.notify_one();
  }
}

void Driver::pause(const std::function<void()>& last) {
  std::unique_lock lock(mutex_);
  while (is_led_) sleep(lock, nullptr, std::nullopt);
  last();
  hand_over();
}

// Makes one step. The lock is open meanwhile.
bool Driver::lead(std::unique_lock<std::mutex>& lock) {
  is_led_ = true;
  lock.unlock();
  const bool found_work = step_();
  lock.lock();
  is_led_ = false;
  ++num_steps_;
  last_found_work_ = found_work;
  for (Waiter* waiter : waiters_) {
    if (waiter->key == nullptr) waiter->woken.notify_one();
  }
  return found_work;
}

void Driver::sleep(std::unique_lock<std::mutex>& lock, const void* key, std::optional<Time> deadline) {
  Waiter waiter{key, {}};
  const auto place = waiters_.insert(waiters_.end(), &waiter);
  if (deadline) {
    waiter.woken.wait_until(lock, *deadline);
  } else {
    waiter.woken.wait(lock);
  }
  waiters_.erase(place);
}

// Whoever leaves wakes one that can lead on.
void Driver::hand_over() {
  if (is_led_) return;
  for (Waiter* waiter : waiters_) {
    if (waiter->key != nullptr) {
      waiter->woken.notify_one();
      return;
    }
  }
}

}  // namespace rubricrm
