// A file that is written from its beginning, and then takes its name.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/descriptor.h"

namespace rubricrm {

class NewFile {
 public:
  // writing: where it is written; the owner removes it. named: what errors name. Throws FileError, as all that follows.
  NewFile(const fs::path& writing, const fs::path& named);

  int64_t size() const { return size_; }
  void write(std::string_view contents);
  void write_zeros(int64_t count);
  // Renames it, so that after a crash of the machine the name holds the old contents or the new.
  void rename_to(const fs::path& path);

 private:
  const fs::path writing_, named_;
  const Descriptor file_;
  int64_t size_ = 0;
};

}  // namespace rubricrm
