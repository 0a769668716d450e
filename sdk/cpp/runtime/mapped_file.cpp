#include "runtime/mapped_file.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

#include "runtime/descriptor.h"

namespace rubricrm {

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);  // a pipe without a writer must not be waited for
  struct stat found;
  if (fstat(file.number(), &found) != 0) throw FileError(path, errno);
  if (!S_ISREG(found.st_mode)) throw FileError(path, S_ISDIR(found.st_mode) ? EISDIR : EINVAL);
  if (found.st_size == 0) return;  // nothing can be mapped of it
  size_ = static_cast<size_t>(found.st_size);
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
