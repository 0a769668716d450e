#include "runtime/derived_data.h"

#include <stdlib.h>

#include <algorithm>
#include <optional>

#include "error.h"
#include "runtime/derivation.h"
#include "runtime/hidden_directory.h"

namespace rubricrm {
namespace {

// Writes a graph's data file from the data of another graph, and gives it its name.
void write_data(const Bundle& bundle, const GraphFacts& graph, const fs::path& writing, const fs::path& path) {
  const Manifest& manifest = bundle.manifest();
  const auto source = std::find_if(manifest.graphs.begin(), manifest.graphs.end(), [&](const GraphFacts& other) {
    return other.data_file && manifest.has_data(other);  // there is one: a rule of manifests
  });
  NewFile file(writing, path);
  derive_data(bundle.file(graph.file), bundle.file(source->file), file);
  file.rename_to(path);
}

bool is_whole(const fs::path& path, int64_t size) {
  std::error_code error;
  return fs::is_regular_file(path, error) && fs::file_size(path, error) == static_cast<uintmax_t>(size);
}

// The directory of this machine's cache that holds the data, made if it is missing; none: there is no cache.
std::optional<fs::path> kept_data(const Bundle& bundle, const GraphFacts& graph, const CacheDirectory& cache,
                                  const Warn& warn) {
  fs::path directory;
  try {
    directory = cache.own(fs::path(bundle.manifest_sha256()) / ("data-" + graph.layout));
  } catch (const FileError& error) {
    tell(warn, cache.without(error));
    return std::nullopt;
  }
  const fs::path path = directory / *graph.data_file;
  if (is_whole(path, data_size(bundle.file(graph.file)))) return directory;
  remove_abandoned(path);
  try {
    const HiddenDirectory hidden(path);
    write_data(bundle, graph, hidden.path() / path.filename(), path);
  } catch (const FileError& error) {
    tell(warn, "data in the layout " + graph.layout + " could not be kept (" + error.what() + ")");
    return std::nullopt;
  }
  return directory;
}

fs::path new_temporary_directory() {
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "rubricrm-XXXXXX").string();
  if (error) throw FileError("no directory for temporary files: " + error.message());
  if (mkdtemp(name.data()) == nullptr) throw FileError(name, errno);
  return name;
}

}  // namespace

DataDirectory::DataDirectory(const Bundle& bundle, const GraphFacts& graph, const CacheDirectory& cache,
                             const Warn& warn)
    : path_(bundle.path()) {
  if (bundle.manifest().has_data(graph)) return;
  if (const std::optional<fs::path> kept = kept_data(bundle, graph, cache, warn)) {
    path_ = *kept;
    return;
  }
  try {
    write_temporary(bundle, graph);
  } catch (const FileError& error) {
    throw Error(Code::RUNTIME_FAILED, bundle.path().string() + ": its weights cannot be arranged in the layout " +
                                          graph.layout + " (" + error.what() +
                                          "). Make room on the disk of the cache directory, or convert the bundle "
                                          "once: `rubricrm convert`.");
  }
}

void DataDirectory::write_temporary(const Bundle& bundle, const GraphFacts& graph) {
  path_ = new_temporary_directory();
  is_temporary_ = true;
  try {
    write_data(bundle, graph, path_ / "writing", path_ / *graph.data_file);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    throw;
  }
}

DataDirectory::~DataDirectory() {
  std::error_code ignored;
  if (is_temporary_) fs::remove_all(path_, ignored);
}

}  // namespace rubricrm
