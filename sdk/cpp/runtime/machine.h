// What this process may use of the machine: cores.
#pragma once

#include "runtime/whole_file.h"

namespace rubricrm {

// The cores that this process may really use: its affinity, less its control groups' quota, at least 1. `root`: the
// directory in which /proc and /sys lie.
int usable_cores(const fs::path& root = "/");

}  // namespace rubricrm
