// What the types of a manifest do not say: ranges, names, and that its parts agree. The rules of docs/BUNDLE.md.
#pragma once

#include <string>

#include "runtime/manifest.h"

namespace rubricrm {

// Checks a manifest whose types are right; `where` is the file's path, for messages. Throws BUNDLE_INVALID, which names
// the key.
void check_manifest(const Manifest& manifest, const std::string& where);

}  // namespace rubricrm
