// Threads in place of the runtime's: every task may run on any of them, at the same time.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "thread_pool.h"

class TestPool : public rubricrm::ThreadPool {
 public:
  explicit TestPool(int threads) : threads_(threads) {}

  void run(size_t count, void (*task)(void*, size_t), void* data) override {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < count; i = next++) task(data, i);
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads_; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
  }

 private:
  int threads_;
};
