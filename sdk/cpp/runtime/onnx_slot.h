// Room for one sequence in an arena.
#pragma once

#include <memory>

#include "runtime/onnx_arena.h"
#include "runtime/session.h"

namespace rubricrm {

class OnnxSlot : public Slot {
 public:
  OnnxSlot(std::shared_ptr<OnnxArena> arena, int64_t number) : arena_(std::move(arena)), number_(number) {}

  OnnxArena& arena() const { return *arena_; }
  int64_t number() const { return number_; }
  // Counts tokens whose keys and values the graph has appended.
  void advance(int64_t count) { length_ += count; }

  int64_t length() const override { return length_; }
  int64_t capacity() const override { return arena_->capacity(); }
  void borrow(const Slot& base, int64_t length) override;
  void restore(const Positions& positions, int64_t length) override;
  void copy(const Slot& source, int64_t length) override;
  void clear() override;
  void rewind(int64_t length) override;

 private:
  // Throws RUNTIME_FAILED unless a length is one of these.
  void require_length(int64_t length, int64_t least, int64_t most) const;

  std::shared_ptr<OnnxArena> arena_;
  int64_t number_, length_ = 0;
  // What an earlier restore copied is still there, since tokens are only ever appended after it.
  const void* restored_ = nullptr;
  int64_t num_restored_ = 0;
};

}  // namespace rubricrm
