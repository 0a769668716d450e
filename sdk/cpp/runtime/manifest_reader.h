// The text of rubricrm.json to a Manifest: each error names the key by its whole path.
#pragma once

#include <string>
#include <string_view>

#include "runtime/manifest.h"

namespace rubricrm {

// Reads and checks a manifest; `where` is the file's path, for messages. Throws
//   BUNDLE_INVALID              not JSON, or a key missing, unknown, of the wrong type, out of range or in
//   contradiction; BUNDLE_VERSION_UNSUPPORTED  another format version.
Manifest read_manifest(std::string_view text, const std::string& where);

}  // namespace rubricrm
