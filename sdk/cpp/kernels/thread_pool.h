// Where tasks run: the runtime's threads, or a test's. The kernels have no threads of their own.
#pragma once

#include <cstddef>

namespace rubricrm {

class ThreadPool {
 public:
  virtual ~ThreadPool() = default;

  // Calls task(data, i) for each i below `count`, in any order and on any thread, and returns when all are done.
  virtual void run(size_t count, void (*task)(void* data, size_t index), void* data) = 0;

  // Calls `function(i)` for each i below `count`. It must not throw.
  template <class Function>
  void each(size_t count, const Function& function) {
    if (count == 1) return function(size_t{0});
    run(
        count, [](void* data, size_t index) { (*static_cast<const Function*>(data))(index); },
        const_cast<Function*>(&function));
  }
};

}  // namespace rubricrm
