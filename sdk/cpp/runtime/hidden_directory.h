// Hidden siblings of an output, in which it is made: who dies while making it leaves one, and the next run removes it.
// The same names and locks as runtime/hidden_directory.py, so that either side removes what the other has left.
#pragma once

#include <memory>

#include "runtime/descriptor.h"
#include "runtime/whole_file.h"

namespace rubricrm {

// A new directory beside an output, locked, so that other processes leave it alone, and removed with its owner. Where
// the file system has no locks it is made without one, and nobody removes it after a kill.
class HiddenDirectory {
 public:
  // Throws FileError: it cannot be made.
  explicit HiddenDirectory(const fs::path& output);
  ~HiddenDirectory();
  HiddenDirectory(const HiddenDirectory&) = delete;
  HiddenDirectory& operator=(const HiddenDirectory&) = delete;

  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  std::unique_ptr<const Descriptor> lock_;
};

// Removes the hidden directories that killed processes left beside an output, but for those that hold an old output.
void remove_abandoned(const fs::path& output);

}  // namespace rubricrm
