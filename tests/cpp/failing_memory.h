// A `new` that fails when a test wants it to. For one file of a program, and not for sanitizers, which have their own.
#pragma once

#include <cstdlib>
#include <new>

// How many allocations of this thread succeed before some fail, and how many fail from there on.
inline thread_local long num_left = 0, num_failing = 0;

inline void* allocate(std::size_t size) {
  if (num_left > 0) {
    --num_left;
  } else if (num_failing > 0) {
    --num_failing;
    throw std::bad_alloc();
  }
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

// Never inlined: GCC would see std::free() beside a call of `operator new` and take the two for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) { return allocate(size); }
[[gnu::noinline]] void* operator new[](std::size_t size) { return allocate(size); }
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
