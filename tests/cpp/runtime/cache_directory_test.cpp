// The cache directory is used only where no other user can have written it.
#include "runtime/cache_directory.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>

#include "expect.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

void expect_refused(const std::string& words, const std::function<void()>& act) {
  try {
    act();
    EXPECT(false, "no error, expected %s", words.c_str());
  } catch (const FileError& error) {
    EXPECT(std::string(error.what()).find(words) != std::string::npos, "got %s, expected %s", error.what(),
           words.c_str());
  }
}

mode_t mode_of(const fs::path& path) {
  struct stat found;
  stat(path.c_str(), &found);
  return found.st_mode & 07777;
}

void test_where_it_is() {
  unsetenv("RUBRICRM_CACHE");
  setenv("HOME", "/home/somebody", 1);
  setenv("XDG_CACHE_HOME", "/elsewhere", 1);
  EXPECT(cache_directory() == "/elsewhere/rubricrm", "%s", cache_directory().c_str());
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT(cache_directory() == "/home/somebody/.cache/rubricrm", "%s", cache_directory().c_str());
  setenv("RUBRICRM_CACHE", "/mine/", 1);
  EXPECT(cache_directory() == "/mine", "%s", cache_directory().c_str());
}

void test_directories_are_private() {
  const TemporaryDirectory directory;
  setenv("RUBRICRM_CACHE", (directory.path() / "cache").c_str(), 1);
  const fs::path made = own_directory(fs::path("hash") / "key");
  EXPECT(made == directory.path() / "cache/hash/key", "%s", made.c_str());
  for (const fs::path& path : {made, made.parent_path(), made.parent_path().parent_path()}) {
    EXPECT(mode_of(path) == 0700, "%s has the mode %o", path.c_str(), mode_of(path));
  }
}

void test_what_others_may_write_is_refused() {
  const TemporaryDirectory directory;
  const fs::path cache = directory.path() / "cache";
  setenv("RUBRICRM_CACHE", cache.c_str(), 1);
  const fs::path made = own_directory("hash");
  write_text(made / "file", "");
  chmod((made / "file").c_str(), 0666);
  own_directory("hash");  // out of others' reach, whatever its own mode
  chmod(cache.c_str(), 0755);
  chmod(made.c_str(), 0755);
  expect_refused("file may be written by other users", [] { own_directory("hash"); });
  chmod((made / "file").c_str(), 0644);
  own_directory("hash");
  chmod(made.c_str(), 0775);
  expect_refused("hash may be written by other users", [] { own_directory("hash"); });
  chmod(made.c_str(), 0755);
  chmod(directory.path().c_str(), 0777);
  expect_refused("may be written by everyone", [] { own_directory("hash"); });
  chmod(directory.path().c_str(), 01777);
  own_directory("hash");
}

void test_what_belongs_to_others_is_refused() {
  if (geteuid() != 0) return;  // only root can give a file away
  const TemporaryDirectory directory;
  setenv("RUBRICRM_CACHE", (directory.path() / "cache").c_str(), 1);
  const fs::path made = own_directory("hash");
  EXPECT(chown(made.c_str(), 12345, 12345) == 0, "given away");
  expect_refused("hash belongs to user 12345", [] { own_directory("hash"); });
}

void test_what_cannot_be_made() {
  const TemporaryDirectory directory;
  write_text(directory.path() / "file", "");
  setenv("RUBRICRM_CACHE", (directory.path() / "file/cache").c_str(), 1);
  expect_refused("Not a directory", [] { own_directory("hash"); });
}

}  // namespace

int main() {
  test_where_it_is();
  test_directories_are_private();
  test_what_others_may_write_is_refused();
  test_what_belongs_to_others_is_refused();
  test_what_cannot_be_made();
  return failures != 0;
}
