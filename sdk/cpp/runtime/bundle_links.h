// Where the files of a bundle may really lie: docs/BUNDLE.md, "Where the data may lie".
#pragma once

#include "runtime/whole_file.h"

namespace rubricrm {

// Throws BUNDLE_INVALID for a link to where the bundle's data may not lie: outside its directory and its repository's
// blobs.
void check_link(const fs::path& path);

// Throws BUNDLE_INVALID for a graph beside whose real path its data do not lie: ONNX Runtime would refuse it, and say
// less.
void check_pair(const fs::path& graph, const fs::path& data);

}  // namespace rubricrm
