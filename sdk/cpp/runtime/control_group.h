// Limits of the control groups that this process is in: its own and every parent, of version 1 and 2. A file that is
// missing or malformed limits nothing.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/whole_file.h"

namespace rubricrm {

// The tightest CPU quota in cores. `root`: the directory in which /proc and /sys lie.
std::optional<double> cpu_quota(const fs::path& root = "/");

}  // namespace rubricrm
