// Files read and written whole. Errors are of class FileError: "PATH: what the system says".
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace rubricrm {

namespace fs = std::filesystem;

struct FileError : std::runtime_error {
  FileError(const fs::path& path, int error);
  explicit FileError(const std::string& what) : std::runtime_error(what) {}
};

// Contents of a regular file. Throws FileError: a pipe or a device too, at once.
std::string read_file(const fs::path& path);

// SHA-256 of a file, which is read in blocks. Throws FileError.
std::string file_sha256(const fs::path& path);

// Writes to a temporary sibling, then renames: a reader sees all of it or none, after a crash of the machine too.
// Throws FileError; what was there before then stays, and no sibling is left.
void write_whole(const fs::path& path, std::string_view contents);

}  // namespace rubricrm
