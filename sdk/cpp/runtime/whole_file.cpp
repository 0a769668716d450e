#include "runtime/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "runtime/descriptor.h"
#include "runtime/new_file.h"
#include "runtime/sha256.h"

namespace rubricrm {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;

// Hands a file's blocks to `take`.
void read_blocks(const fs::path& path, const std::function<void(const char*, size_t)>& take) {
  const Descriptor file(path, kReadRegular);
  file.regular_size(path);
  std::vector<char> block(kBlockBytes);
  for (;;) {
    const ssize_t size = read(file.number(), block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) throw FileError(path, errno);
    if (size == 0) return;
    take(block.data(), static_cast<size_t>(size));
  }
}

}  // namespace

FileError::FileError(const fs::path& path, int error)
    : std::runtime_error(path.string() + ": " + std::strerror(error)) {}

std::string read_file(const fs::path& path) {
  std::string contents;
  read_blocks(path, [&](const char* data, size_t size) { contents.append(data, size); });
  return contents;
}

std::string file_sha256(const fs::path& path) {
  Sha256 digest;
  read_blocks(path, [&](const char* data, size_t size) { digest.update(data, size); });
  return digest.hex();
}

void write_whole(const fs::path& path, std::string_view contents) {
  // Of this thread alone: several may write the same file at once, and the last one wins.
  const size_t thread = std::hash<std::thread::id>()(std::this_thread::get_id());
  const fs::path writing = path.parent_path() / ("." + path.filename().string() + "." + std::to_string(getpid()) + "-" +
                                                 std::to_string(thread) + ".writing");
  try {
    NewFile file(writing, path);
    file.write(contents);
    file.rename_to(path);
  } catch (...) {
    unlink(writing.c_str());
    throw;
  }
}

}  // namespace rubricrm
