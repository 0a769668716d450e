// The directory for what this machine computed once, and the rule that says whether what lies there is our own; the
// same directory as the Python package's, docs/BUNDLE.md "The cache directory".
#pragma once

#include "runtime/whole_file.h"

namespace rubricrm {

// There is no cache directory here, or what lies there may be another user's. Its text is one clause.
struct CacheError : FileError {
  using FileError::FileError;
};

// Where data that belongs to this machine is kept. Nothing is made before something is asked for.
class CacheDirectory {
 public:
  // $RUBRICRM_CACHE, else the user's cache.
  CacheDirectory() : CacheDirectory(fs::path()) {}
  // As above where the path is empty.
  explicit CacheDirectory(const fs::path& chosen);

  // The directory itself. Throws CacheError: none was chosen, and this user has no home.
  fs::path path() const;

  // A directory below it, made with the mode 0700 if it is missing, whose files may be used. Throws FileError: it
  // cannot be made; CacheError: it, a directory above it or a file in it breaks the rule.
  fs::path own(const fs::path& below) const;

  // Checks the directory, a path below it and every directory between them by the rule. Throws as own().
  void require_own(const fs::path& path) const;

  // What to tell a user where it cannot be used, with the remedy.
  std::string without(const FileError& error) const;

 private:
  fs::path chosen_;  // absolute; empty: none was
  bool is_option_;   // whether the caller chose it, and not the variable
};

}  // namespace rubricrm
