#include "runtime/hidden_directory.h"

#include <sys/file.h>

#include <algorithm>
#include <random>
#include <string>

namespace rubricrm {
namespace {

constexpr const char* kLock = "lock";
constexpr const char* kReplaced = "replaced";
constexpr int kAttempts = 10;
constexpr size_t kRandomCharacters = 8;
constexpr char kAlphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

enum class Lock { TAKEN, HELD, UNKNOWN };  // UNKNOWN: the file system has no locks

Lock take(const Descriptor& lock, int how) {
  if (flock(lock.number(), LOCK_EX | how) == 0) return Lock::TAKEN;
  return errno == EWOULDBLOCK ? Lock::HELD : Lock::UNKNOWN;
}

std::string prefix_of(const fs::path& output) { return "." + output.filename().string() + ".writing-"; }

fs::path new_directory(const fs::path& output) {
  std::random_device device;
  for (int attempt = 0;; ++attempt) {
    std::string name = prefix_of(output);
    for (size_t i = 0; i < kRandomCharacters; ++i) name += kAlphabet[device() % (sizeof kAlphabet - 1)];
    const fs::path directory = output.parent_path() / name;
    if (mkdir(directory.c_str(), 0700) == 0) return directory;
    if (errno != EEXIST || attempt == kAttempts) throw FileError(directory, errno);
  }
}

// Whether a path still names the file of a descriptor.
bool is_there(const fs::path& path, const Descriptor& file) {
  struct stat named, open;
  return stat(path.c_str(), &named) == 0 && fstat(file.number(), &open) == 0 && named.st_ino == open.st_ino &&
         named.st_dev == open.st_dev;
}

bool is_ours(const std::string& name, const fs::path& output) {
  const std::string prefix = prefix_of(output);
  return name.size() == prefix.size() + kRandomCharacters && name.compare(0, prefix.size(), prefix) == 0 &&
         name.find_first_not_of(kAlphabet, prefix.size()) == std::string::npos;
}

void remove_if_abandoned(const fs::path& directory) {
  std::error_code ignored;
  if (fs::exists(directory / kReplaced, ignored)) return;
  if (!fs::exists(directory / kLock, ignored)) {
    fs::remove(directory, ignored);  // killed before it was locked: it is empty. Anything else is not ours
    return;
  }
  try {
    const Descriptor lock(directory / kLock, O_RDWR);
    if (take(lock, LOCK_NB) == Lock::TAKEN) fs::remove_all(directory, ignored);
  } catch (const FileError&) {  // another user's
  }
}

}  // namespace

HiddenDirectory::HiddenDirectory(const fs::path& output) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    path_ = new_directory(output);
    const fs::path file = path_ / kLock;
    try {
      // Somebody who looks for abandoned directories may remove it before it is locked: then once more.
      lock_ = std::make_unique<const Descriptor>(file, O_RDWR | O_CREAT);
    } catch (const FileError&) {
      std::error_code ignored;
      if (!fs::exists(path_, ignored)) continue;
      fs::remove(path_, ignored);
      throw;
    }
    if (take(*lock_, 0) == Lock::UNKNOWN || is_there(file, *lock_)) return;
  }
  throw FileError(output.string() + ": no hidden directory could be made beside it");
}

HiddenDirectory::~HiddenDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void remove_abandoned(const fs::path& output) {
  std::error_code error;
  fs::directory_iterator entry(output.parent_path(), error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (is_ours(entry->path().filename().string(), output)) remove_if_abandoned(entry->path());
  }
}

}  // namespace rubricrm
