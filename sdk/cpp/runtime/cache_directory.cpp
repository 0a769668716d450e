#include "runtime/cache_directory.h"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

namespace rubricrm {
namespace {

constexpr const char* kVariable = "RUBRICRM_CACHE";
constexpr mode_t kPrivate = 0700;
constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH, kReachableByOthers = S_IXGRP | S_IXOTH;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path home() {
  if (const std::string home = variable("HOME"); !home.empty()) return home;
  std::vector<char> memory(16384);
  passwd entry, *found = nullptr;
  if (getpwuid_r(getuid(), &entry, memory.data(), memory.size(), &found) != 0 || found == nullptr) {
    throw CacheError("this user has no home directory");
  }
  return found->pw_dir;
}

fs::path resolved(const fs::path& path) {
  std::error_code error;
  const fs::path found = fs::weakly_canonical(path, error);
  if (error) throw CacheError(path, error.value());
  return found;
}

// Checks one file or directory; returns whether nobody else reaches what lies in it.
bool is_private(const fs::path& path, bool is_within_private) {
  struct stat found;
  if (lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return is_within_private;  // another process has just renamed it
    throw FileError(path, errno);
  }
  if (found.st_uid != geteuid()) {
    throw CacheError(path.string() + " belongs to user " + std::to_string(found.st_uid) + ", this process runs as " +
                     std::to_string(geteuid()));
  }
  if (!is_within_private && !S_ISLNK(found.st_mode) && (found.st_mode & kWritableByOthers) != 0) {
    throw CacheError(path.string() + " may be written by other users");
  }
  return is_within_private || (S_ISDIR(found.st_mode) && (found.st_mode & kReachableByOthers) == 0);
}

void make(const fs::path& directory) {
  std::error_code error;
  if (directory.empty() || fs::exists(directory, error)) return;
  if (directory.has_relative_path()) make(directory.parent_path());
  if (mkdir(directory.c_str(), kPrivate) != 0 && errno != EEXIST) throw FileError(directory, errno);
}

}  // namespace

CacheDirectory::CacheDirectory(const fs::path& chosen) : is_option_(!chosen.empty()) {
  chosen_ = is_option_ ? chosen : fs::path(variable(kVariable));
  if (chosen_.empty()) return;
  std::error_code error;
  const fs::path absolute = fs::absolute(chosen_, error);
  if (!error) chosen_ = absolute;
  if (!chosen_.has_filename()) chosen_ = chosen_.parent_path();
}

fs::path CacheDirectory::path() const {
  if (!chosen_.empty()) return chosen_;
  const fs::path user = variable("XDG_CACHE_HOME");
  // A path that is not absolute is to be ignored, by the specification of this variable.
  return (user.is_absolute() ? user : home() / ".cache") / "rubricrm";
}

fs::path CacheDirectory::own(const fs::path& below) const {
  const fs::path directory = path() / below;
  make(directory);
  require_own(directory);
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) require_own(entry->path());
  if (error) throw FileError(directory, error.value());
  return directory;
}

void CacheDirectory::require_own(const fs::path& path) const {
  const fs::path top = this->path();
  fs::path place = resolved(top);
  for (fs::path above = place; above.has_relative_path();) {
    above = above.parent_path();
    struct stat found;
    if (stat(above.c_str(), &found) != 0) throw FileError(above, errno);
    if ((found.st_mode & S_IWOTH) != 0 && (found.st_mode & S_ISVTX) == 0) {
      throw CacheError(above.string() + " may be written by everyone");
    }
  }
  bool is_ours_alone = is_private(place, false);
  for (const fs::path& name : path.lexically_relative(top)) {
    if (name == ".") continue;
    place /= name;
    is_ours_alone = is_private(place, is_ours_alone);
  }
}

std::string CacheDirectory::without(const FileError& error) const {
  return std::string("nothing is kept between runs (") + error.what() + "): opening takes longer each time. Set " +
         (is_option_ ? "cache_directory" : kVariable) + " to a directory of your own, with the mode 0700.";
}

}  // namespace rubricrm
