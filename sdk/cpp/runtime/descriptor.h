// An open file, closed with its owner.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/whole_file.h"

namespace rubricrm {

// To read a regular file: a pipe that stands in its place must not be waited for.
constexpr int kReadRegular = O_RDONLY | O_NONBLOCK;

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

  // Its size now. Throws FileError: it is no regular file.
  size_t regular_size(const fs::path& path) const {
    struct stat found;
    if (fstat(number_, &found) != 0) throw FileError(path, errno);
    if (S_ISDIR(found.st_mode)) throw FileError(path, EISDIR);
    if (!S_ISREG(found.st_mode)) throw FileError(path.string() + ": is no regular file");
    return static_cast<size_t>(found.st_size);
  }

 private:
  int number_;
};

}  // namespace rubricrm
