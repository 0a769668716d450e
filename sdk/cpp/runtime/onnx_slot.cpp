#include "runtime/onnx_slot.h"

#include <algorithm>

#include "error.h"

namespace rubricrm {

void OnnxSlot::require_length(int64_t length, int64_t least, int64_t most) const {
  if (least <= length && length <= most) return;
  throw Error(Code::RUNTIME_FAILED, "a slot of " + std::to_string(capacity()) + " positions cannot hold " +
                                        std::to_string(length) + " of another one, expected " + std::to_string(least) +
                                        " to " + std::to_string(most) + ". Make a larger slot.");
}

void OnnxSlot::borrow(const Slot& base, int64_t length) {
  const auto& from = static_cast<const OnnxSlot&>(base);
  require_length(length, 0, std::min(capacity(), from.length_));
  rewind(0);
  length_ = length;
  arena_->set_base(number_, from.number_, length);
}

void OnnxSlot::restore(const Positions& positions, int64_t length) {
  require_length(length, 0, std::min(capacity(), positions.num_tokens));
  arena_->set_base(number_, -1, 0);
  const int64_t start = positions.data == restored_ ? std::min(num_restored_, length) : 0;
  const KvShape& shape = arena_->memory().shape();
  const int64_t head_stride = positions.num_tokens * shape.row_bytes;
  if (start < length) {
    arena_->memory().write(number_,
                           {static_cast<const std::byte*>(positions.data), shape.heads * head_stride, head_stride},
                           start, length);
  }
  restored_ = positions.data;
  num_restored_ = length_ = length;
}

void OnnxSlot::copy(const Slot& source, int64_t length) {
  const auto& from = static_cast<const OnnxSlot&>(source);
  require_length(length, length_, std::min(capacity(), from.length_));
  if (&from == this) return;
  arena_->memory().write(number_, from.arena_->memory().view(from.number_), length_, length);
  length_ = length;
}

void OnnxSlot::clear() {
  arena_->set_base(number_, -1, 0);
  arena_->memory().release(number_);
  length_ = num_restored_ = 0;
}

void OnnxSlot::rewind(int64_t length) {
  length_ = std::min(length_, length);
  num_restored_ = std::min(num_restored_, length);
  if (arena_->base_length(number_) > length) arena_->shorten_base(number_, length);
}

}  // namespace rubricrm
