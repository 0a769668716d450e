// Whose turn it is to step: what a thread is told of another one's step, and that a step which throws stops nobody.
#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>

#include "expect.h"
#include "generation/driver.h"

using namespace rubricrm;

namespace {

// A step that has looked for work, found none and has not returned, when somebody brings some and asks for a step.
void a_step_that_began_before_the_call_does_not_say_that_there_is_no_work() {
  std::promise<void> has_looked, may_return;
  std::atomic<bool> has_work{false};
  std::atomic<int> num_steps{0};
  Driver driver([&] {
    const bool found_work = has_work;
    if (num_steps++ == 0) {
      has_looked.set_value();
      may_return.get_future().wait();
    }
    return found_work;
  });
  auto first = std::async(std::launch::async, [&] { return driver.step_once(); });
  has_looked.get_future().wait();
  has_work = true;
  auto second = std::async(std::launch::async, [&] { return driver.step_once(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // most likely it sleeps by now; it is right in any case
  may_return.set_value();
  EXPECT(second.get(), "there was work when it was called");
  EXPECT(!first.get(), "there was none when the first step looked");
}

void work_that_another_thread_finds_is_enough() {
  std::promise<void> has_looked, may_return;
  int num_steps = 0;
  Driver driver([&] {
    if (num_steps++ == 0) {
      has_looked.set_value();
      may_return.get_future().wait();
      return true;
    }
    return false;
  });
  auto first = std::async(std::launch::async, [&] { return driver.step_once(); });
  has_looked.get_future().wait();
  std::thread releases([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    may_return.set_value();
  });
  EXPECT(driver.step_once(), "the step that it waited for found work");
  EXPECT(first.get() && num_steps == 1, "%d steps", num_steps);
  releases.join();
}

// The first step throws while another thread sleeps: that one leads on.
void a_step_that_throws_lets_the_next_one_lead() {
  std::promise<void> is_inside, may_throw;
  int num_steps = 0;
  Driver driver([&] {
    if (num_steps++ == 0) {
      is_inside.set_value();
      may_throw.get_future().wait();
      throw std::runtime_error("a surprise");
    }
    return true;
  });
  const int keys[2] = {};
  auto first = std::async(std::launch::async, [&] { driver.wait(&keys[0], [&] { return false; }, std::nullopt); });
  is_inside.get_future().wait();
  std::atomic<bool> is_done{false};
  auto second = std::async(std::launch::async, [&] {
    driver.wait(&keys[1], [&] { return num_steps > 3; }, std::nullopt);
    is_done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  may_throw.set_value();
  bool has_thrown = false;
  try {
    first.get();
  } catch (const std::runtime_error&) {
    has_thrown = true;
  }
  EXPECT(has_thrown, "who led is told");
  second.get();
  EXPECT(is_done && driver.step_once(), "the next one leads");
  driver.pause([] {});
}

}  // namespace

int main() {
  a_step_that_began_before_the_call_does_not_say_that_there_is_no_work();
  work_that_another_thread_finds_is_enough();
  a_step_that_throws_lets_the_next_one_lead();
  return failures != 0;
}
