// The directory for what this machine computed once, and the rule that says whether what lies there is our own; the
// same directory as the Python package's, docs/BUNDLE.md "The cache directory".
#pragma once

#include "runtime/whole_file.h"

namespace rubricrm {

// There is no cache directory here, or what lies there may be another user's. Its text is one clause.
struct CacheError : FileError {
  using FileError::FileError;
};

// Where data that belongs to this machine is kept: $RUBRICRM_CACHE, else the user's cache. Throws CacheError: the
// variable is not set and this user has no home.
fs::path cache_directory();

// A directory below the cache directory, made with the mode 0700 if it is missing, whose files may be used. Throws
// FileError: it cannot be made; CacheError: it, a directory above it or a file in it breaks the rule.
fs::path own_directory(const fs::path& below);

// Checks the cache directory, a path below it and every directory between them by the rule. Throws as own_directory.
void require_own(const fs::path& path);

// What to tell a user whose cache cannot be used, with the remedy.
std::string without_cache(const FileError& error);

}  // namespace rubricrm
