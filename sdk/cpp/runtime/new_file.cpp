#include "runtime/new_file.h"

#include <algorithm>
#include <cstdio>
#include <string>

namespace rubricrm {

NewFile::NewFile(const fs::path& writing, const fs::path& named)
    : writing_(writing), named_(named), file_(writing, O_WRONLY | O_CREAT | O_TRUNC, named) {}

void NewFile::write(std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t size = ::write(file_.number(), contents.data(), contents.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw FileError(named_, errno);
    contents.remove_prefix(static_cast<size_t>(size));
    size_ += size;
  }
}

void NewFile::write_zeros(int64_t count) {
  const std::string zeros(static_cast<size_t>(std::min<int64_t>(count, 1 << 16)), '\0');
  for (; count > 0; count -= static_cast<int64_t>(zeros.size())) {
    write(std::string_view(zeros).substr(0, static_cast<size_t>(std::min<int64_t>(count, zeros.size()))));
  }
}

void NewFile::rename_to(const fs::path& path) {
  if (fsync(file_.number()) != 0) throw FileError(named_, errno);
  if (rename(writing_.c_str(), path.c_str()) != 0) throw FileError(named_, errno);
  try {
    // Some file systems, of networks above all, cannot do this; the contents are safe without it.
    const Descriptor directory(path.parent_path(), O_RDONLY);
    fsync(directory.number());
  } catch (const FileError&) {
  }
}

}  // namespace rubricrm
