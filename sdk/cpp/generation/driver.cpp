#include "generation/driver.h"

namespace rubricrm {

// Hands over in the end, however that comes. The lock is held then.
struct Driver::Handing {
  Driver& driver;
  ~Handing() { driver.hand_over(); }
};

void Driver::wait(const void* key, const std::function<bool()>& is_ready, std::optional<Time> deadline) {
  std::unique_lock lock(mutex_);
  const Handing handing{*this};
  while (!is_ready() && !(deadline && *deadline <= Clock::now())) {
    if (is_led_) {
      sleep(lock, key, deadline);
    } else {
      lead(lock);
    }
  }
}

bool Driver::step_once() {
  std::unique_lock lock(mutex_);
  const Handing handing{*this};
  const uint64_t begun_before = num_begun_, ended_before = num_ended_;
  while (is_led_) {
    sleep(lock, nullptr, std::nullopt);
    const bool has_ended = num_ended_ > ended_before, has_begun_after = num_ended_ > begun_before;
    if (has_ended && (last_found_work_ || has_begun_after)) return last_found_work_;
  }
  return lead(lock);
}

void Driver::notify(const void* key) {
  const std::lock_guard lock(mutex_);
  for (Waiter* waiter : waiters_) {
    if (waiter->key == key) waiter->woken.notify_one();
  }
}

void Driver::pause(const std::function<void()>& last) {
  std::unique_lock lock(mutex_);
  const Handing handing{*this};
  while (is_led_) sleep(lock, nullptr, std::nullopt);
  last();
}

// Makes one step. The lock is open meanwhile.
bool Driver::lead(std::unique_lock<std::mutex>& lock) {
  is_led_ = true;
  ++num_begun_;
  lock.unlock();
  bool found_work = true;  // one that throws has found some
  try {
    found_work = step_();
  } catch (...) {
    end_step(lock, found_work);
    throw;
  }
  end_step(lock, found_work);
  return found_work;
}

void Driver::end_step(std::unique_lock<std::mutex>& lock, bool found_work) {
  lock.lock();
  is_led_ = false;
  ++num_ended_;
  last_found_work_ = found_work;
  for (Waiter* waiter : waiters_) {
    if (waiter->key == nullptr) waiter->woken.notify_one();
  }
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
