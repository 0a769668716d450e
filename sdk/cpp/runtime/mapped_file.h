// A file in memory, as the system pages it in: its size was asked of the open file, so that no reader goes beyond it.
#pragma once

#include <cstddef>
#include <string_view>

#include "runtime/whole_file.h"

namespace rubricrm {

// Read-only. A file that somebody shortens while it is mapped would end the process where it is read, so that
// bundles and caches replace files and never change them.
class MappedFile {
 public:
  // Throws FileError: it cannot be read, or is no regular file.
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace rubricrm
