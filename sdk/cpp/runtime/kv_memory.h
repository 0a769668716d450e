// Keys and values of one or several slots, in memory that a graph reads and writes in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace rubricrm {

// The sizes of a cache: [layers, 2, slots, kv_heads, capacity], and the bytes of a head's vector.
struct KvShape {
  int64_t layers, slots, heads, capacity, row_bytes;

  int64_t half_bytes() const { return heads * capacity * row_bytes; }  // keys, or values, of a layer in one slot
  int64_t num_bytes() const { return layers * 2 * slots * half_bytes(); }
};

// Positions somewhere in memory: those of a prefix file, or of a slot. The strides are in bytes.
struct KvView {
  const std::byte* data;
  int64_t half_stride;  // from the keys of a layer to its values, and on to the next layer's keys
  int64_t head_stride;
};

// One mapping, zero at first. It is reserved, not taken: a page costs memory from the first token that is written to
// it, so that every slot has room for the whole context. Huge pages are refused, since one would hold thousands of
// positions. Throws FileError: the address space has no room for it.
class KvMemory {
 public:
  explicit KvMemory(const KvShape& shape);
  ~KvMemory();
  KvMemory(const KvMemory&) = delete;
  KvMemory& operator=(const KvMemory&) = delete;

  const KvShape& shape() const { return shape_; }
  std::byte* data() const { return data_; }
  std::byte* half(int64_t layer, int64_t half, int64_t slot) const {
    return data_ + ((layer * 2 + half) * shape_.slots + slot) * shape_.half_bytes();
  }
  KvView view(int64_t slot) const;

  // Copies positions `start` to `end` of some positions into a slot.
  void write(int64_t slot, const KvView& source, int64_t start, int64_t end) const;
  // The first `length` positions of a slot, [layers, 2, 1, kv_heads, length, head_dim].
  std::string read(int64_t slot, int64_t length) const;
  // Makes a slot's memory zero, and gives its pages back to the system.
  void release(int64_t slot) const;

 private:
  KvShape shape_;
  std::byte* data_;
};

}  // namespace rubricrm
