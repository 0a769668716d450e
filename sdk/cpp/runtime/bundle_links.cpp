#include "runtime/bundle_links.h"

#include <algorithm>
#include <vector>

#include "error.h"

namespace rubricrm {
namespace {

// The real path, as far as it exists; a link to itself stays as it is.
fs::path real_path(const fs::path& path) {
  std::error_code error;
  const fs::path found = fs::weakly_canonical(path, error);
  return error ? fs::absolute(path, error).lexically_normal() : found;
}

bool is_below(const fs::path& path, const fs::path& directory) {
  const auto [end, rest] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

// The blobs folders of the hub's cache, where the files of REPOSITORY/snapshots/COMMIT lie.
std::vector<fs::path> hub_blobs(const fs::path& directory) {
  std::vector<fs::path> found;
  for (fs::path place = directory.parent_path(); place.has_relative_path(); place = place.parent_path()) {
    if (place.filename() == "snapshots") found.push_back(place.parent_path() / "blobs");
  }
  return found;
}

bool is_in_blobs(const fs::path& path) {
  const fs::path target = real_path(path);
  const std::vector<fs::path> blobs = hub_blobs(real_path(path.parent_path()));
  return std::any_of(blobs.begin(), blobs.end(), [&](const fs::path& place) { return is_below(target, place); });
}

}  // namespace

void check_link(const fs::path& path) {
  std::error_code error;
  if (fs::symlink_status(path, error).type() != fs::file_type::symlink) return;
  const fs::path target = real_path(path), directory = real_path(path.parent_path());
  if (is_below(target, directory) || is_in_blobs(path)) return;
  throw Error(Code::BUNDLE_INVALID,
              path.string() + ": is a link that leaves the bundle (to " + target.string() +
                  "). Copy the file instead: links may lead to files inside the bundle's own directory, or to the "
                  "blobs of the hub's cache that the bundle lies in.");
}

void check_pair(const fs::path& graph, const fs::path& data) {
  if (is_in_blobs(graph) == is_in_blobs(data)) return;
  throw Error(Code::BUNDLE_INVALID, data.string() + ": one of it and " + graph.filename().string() +
                                        " lies in the blobs of the hub's cache, the other does not. Download the "
                                        "bundle again: a graph finds its data beside itself only.");
}

}  // namespace rubricrm
