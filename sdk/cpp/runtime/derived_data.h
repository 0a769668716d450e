// Where a graph's data lie: derived once on a machine where the bundle has them in another layout only, and kept in its
// cache directory. The Python package uses the same files, and writes the same bytes.
#pragma once

#include "runtime/bundle.h"
#include "runtime/cache_directory.h"
#include "runtime/warn.h"

namespace rubricrm {

// The directory in which a graph's data file lies while it is opened; what is open stays usable after it.
class DataDirectory {
 public:
  // The first opening on a machine writes the file into the cache directory (2 GB: seconds). Where there is no cache it
  // is written into a temporary directory at each opening, with a warning. Throws BUNDLE_INVALID: the bundle's data are
  // damaged, or of another model than the graph; RUNTIME_FAILED: the file cannot be written anywhere.
  DataDirectory(const Bundle& bundle, const GraphFacts& graph, const CacheDirectory& cache, const Warn& warn);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const fs::path& path() const { return path_; }

 private:
  void write_temporary(const Bundle& bundle, const GraphFacts& graph);

  fs::path path_;
  bool is_temporary_ = false;
};

}  // namespace rubricrm
