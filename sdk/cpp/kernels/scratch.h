// Memory that one thread uses again and again: aligned to a cache line, kept at the largest size that was asked for.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace rubricrm {

class Scratch {
 public:
  // Returns uninitialized memory, owned by this object and valid until the next call.
  template <class T>
  T* get(size_t count) {
    const size_t bytes = (count * sizeof(T) + kAlignment) / kAlignment * kAlignment;
    if (bytes > bytes_) {
      memory_.reset();
      bytes_ = 0;
      memory_.reset(std::aligned_alloc(kAlignment, bytes));
      if (memory_ == nullptr) throw std::bad_alloc();
      bytes_ = bytes;
    }
    return static_cast<T*>(memory_.get());
  }

 private:
  static constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t bytes_ = 0;
};

}  // namespace rubricrm
