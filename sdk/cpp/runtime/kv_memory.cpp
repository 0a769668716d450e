#include "runtime/kv_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/whole_file.h"

namespace rubricrm {
namespace {

constexpr double kMostBytes = 0x1p60;

}  // namespace

KvMemory::KvMemory(const KvShape& shape) : shape_(shape) {
  const double bytes = 2.0 * shape.layers * shape.slots * shape.heads * shape.capacity * shape.row_bytes;
  if (bytes > kMostBytes) throw FileError("no address space holds a KV cache of " + std::to_string(bytes) + " bytes");
  const size_t size = static_cast<size_t>(std::max<int64_t>(shape.num_bytes(), 1));
  void* address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    throw FileError("no memory of " + std::to_string(size) + " bytes can be reserved (" + std::strerror(errno) + ")");
  }
  madvise(address, size, MADV_NOHUGEPAGE);  // not every kernel has them
  data_ = static_cast<std::byte*>(address);
}

KvMemory::~KvMemory() { munmap(data_, static_cast<size_t>(std::max<int64_t>(shape_.num_bytes(), 1))); }

KvView KvMemory::view(int64_t slot) const {
  return {half(0, 0, slot), shape_.slots * shape_.half_bytes(), shape_.capacity * shape_.row_bytes};
}

void KvMemory::write(int64_t slot, const KvView& source, int64_t start, int64_t end) const {
  const size_t size = static_cast<size_t>((end - start) * shape_.row_bytes);
  const int64_t stride = shape_.capacity * shape_.row_bytes;
  for (int64_t n = 0; n < 2 * shape_.layers; ++n) {
    std::byte* to = half(n / 2, n % 2, slot) + start * shape_.row_bytes;
    const std::byte* from = source.data + n * source.half_stride + start * shape_.row_bytes;
    for (int64_t head = 0; head < shape_.heads; ++head) {
      std::memcpy(to + head * stride, from + head * source.head_stride, size);
    }
  }
}

std::string KvMemory::read(int64_t slot, int64_t length) const {
  const int64_t size = length * shape_.row_bytes;
  std::string positions;
  positions.reserve(static_cast<size_t>(2 * shape_.layers * shape_.heads * size));
  const KvView from = view(slot);
  for (int64_t n = 0; n < 2 * shape_.layers; ++n) {
    for (int64_t head = 0; head < shape_.heads; ++head) {
      const std::byte* row = from.data + n * from.half_stride + head * from.head_stride;
      positions.append(reinterpret_cast<const char*>(row), static_cast<size_t>(size));
    }
  }
  return positions;
}

void KvMemory::release(int64_t slot) const {
  const int64_t page = sysconf(_SC_PAGESIZE);
  for (int64_t n = 0; n < 2 * shape_.layers; ++n) {
    std::byte* const block = half(n / 2, n % 2, slot);
    const int64_t start = block - data_, end = start + shape_.half_bytes();
    const int64_t first = (start + page - 1) / page * page, last = end / page * page;
    if (first >= last || madvise(data_ + first, static_cast<size_t>(last - first), MADV_DONTNEED) != 0) {
      std::memset(block, 0, static_cast<size_t>(end - start));
      continue;
    }
    std::memset(block, 0, static_cast<size_t>(first - start));  // what shares a page with another block
    std::memset(data_ + last, 0, static_cast<size_t>(end - last));
  }
}

}  // namespace rubricrm
