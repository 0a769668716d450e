#include "runtime/mapped_file.h"

#include <sys/mman.h>

#include <utility>

#include "runtime/descriptor.h"

namespace rubricrm {

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor file(path, kReadRegular);
  size_ = file.regular_size(path);
  if (size_ == 0) return;  // nothing can be mapped of it
  void* address = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (address == MAP_FAILED) throw FileError(path, errno);
  data_ = static_cast<const char*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

}  // namespace rubricrm
