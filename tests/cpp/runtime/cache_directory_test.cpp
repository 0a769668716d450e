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
  EXPECT(CacheDirectory().path() == "/elsewhere/rubricrm", "%s", CacheDirectory().path().c_str());
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT(CacheDirectory().path() == "/home/somebody/.cache/rubricrm", "%s", CacheDirectory().path().c_str());
  setenv("RUBRICRM_CACHE", "/mine/", 1);
  EXPECT(CacheDirectory().path() == "/mine", "%s", CacheDirectory().path().c_str());
}

void test_an_option_goes_before_the_variable() {
  const TemporaryDirectory directory;
  setenv("RUBRICRM_CACHE", "/not/this/one", 1);
  const CacheDirectory chosen(directory.path() / "chosen/");
  EXPECT(chosen.path() == directory.path() / "chosen", "%s", chosen.path().c_str());
  EXPECT(chosen.own("hash") == directory.path() / "chosen/hash", "%s", chosen.own("hash").c_str());
  const fs::path before = fs::current_path();
  const CacheDirectory relative("below");
  fs::current_path(directory.path());
  EXPECT(relative.path() == before / "below", "%s", relative.path().c_str());
  fs::current_path(before);
  const FileError error(directory.path(), 13);
  EXPECT(chosen.without(error).find("Set cache_directory to") != std::string::npos, "what the caller set");
  EXPECT(CacheDirectory().without(error).find("Set RUBRICRM_CACHE to") != std::string::npos, "what the user set");
}

void test_directories_are_private() {
  const TemporaryDirectory directory;
  setenv("RUBRICRM_CACHE", (directory.path() / "cache").c_str(), 1);
  const fs::path made = CacheDirectory().own(fs::path("hash") / "key");
  EXPECT(made == directory.path() / "cache/hash/key", "%s", made.c_str());
  for (const fs::path& path : {made, made.parent_path(), made.parent_path().parent_path()}) {
    EXPECT(mode_of(path) == 0700, "%s has the mode %o", path.c_str(), mode_of(path));
  }
}

void test_what_others_may_write_is_refused() {
  const TemporaryDirectory directory;
  const fs::path cache = directory.path() / "cache";
  setenv("RUBRICRM_CACHE", cache.c_str(), 1);
  const fs::path made = CacheDirectory().own("hash");
  write_text(made / "file", "");
  chmod((made / "file").c_str(), 0666);
  CacheDirectory().own("hash");  // out of others' reach, whatever its own mode
  chmod(cache.c_str(), 0755);
  chmod(made.c_str(), 0755);
  expect_refused("file may be written by other users", [] { CacheDirectory().own("hash"); });
  chmod((made / "file").c_str(), 0644);
  CacheDirectory().own("hash");
  chmod(made.c_str(), 0775);
  expect_refused("hash may be written by other users", [] { CacheDirectory().own("hash"); });
  chmod(made.c_str(), 0755);
  chmod(directory.path().c_str(), 0777);
  expect_refused("may be written by everyone", [] { CacheDirectory().own("hash"); });
  chmod(directory.path().c_str(), 01777);
  CacheDirectory().own("hash");
}

void test_what_belongs_to_others_is_refused() {
  if (geteuid() != 0) return;  // only root can give a file away
  const TemporaryDirectory directory;
  setenv("RUBRICRM_CACHE", (directory.path() / "cache").c_str(), 1);
  const fs::path made = CacheDirectory().own("hash");
  EXPECT(chown(made.c_str(), 12345, 12345) == 0, "given away");
  expect_refused("hash belongs to user 12345", [] { CacheDirectory().own("hash"); });
}

void test_what_cannot_be_made() {
  const TemporaryDirectory directory;
  write_text(directory.path() / "file", "");
  setenv("RUBRICRM_CACHE", (directory.path() / "file/cache").c_str(), 1);
  expect_refused("Not a directory", [] { CacheDirectory().own("hash"); });
}

}  // namespace

int main() {
  test_where_it_is();
  test_an_option_goes_before_the_variable();
  test_directories_are_private();
  test_what_others_may_write_is_refused();
  test_what_belongs_to_others_is_refused();
  test_what_cannot_be_made();
  return failures != 0;
}
