// An open file, closed with its owner.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/whole_file.h"

namespace rubricrm {

class Descriptor {
 public:
  // Throws FileError, which names the file, or `named`.
  Descriptor(const fs::path& path, int flags, const fs::path& named = {})
      : number_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (number_ < 0) throw FileError(named.empty() ? path : named, errno);
  }
  ~Descriptor() { close(number_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace rubricrm
