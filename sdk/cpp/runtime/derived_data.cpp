#include "runtime/derived_data.h"

#include "runtime/cache_directory.h"

namespace rubricrm {

std::optional<fs::path> data_directory(const Bundle& bundle, const GraphFacts& graph) {
  if (bundle.manifest().has_data(graph)) return bundle.path();
  try {
    const fs::path directory = cache_directory() / bundle.manifest_sha256() / ("data-" + graph.layout);
    const fs::path file = directory / *graph.data_file;
    std::error_code error;
    if (!fs::is_regular_file(file, error)) return std::nullopt;
    require_own(file);
    return directory;
  } catch (const FileError&) {
    return std::nullopt;
  }
}

Problem data_problem(const Bundle& bundle, const GraphFacts& graph) {
  if (data_directory(bundle, graph)) return std::nullopt;
  return "its weights in the layout " + graph.layout +
         " are neither in the bundle nor in the cache directory: open it once with the Python package, which derives "
         "them, or convert it (`rubricrm convert --layout " +
         graph.layout + "`)";
}

}  // namespace rubricrm
