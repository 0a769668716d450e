// The cost of a bundle's steps in this machine's cache directory: the same files as Python's.
#pragma once

#include <string>
#include <vector>

#include "generation/step_cost.h"
#include "runtime/cache_directory.h"

namespace rubricrm {

// What steps cost, and what to tell the user, if anything.
struct OpenedStepCost {
  StepCost cost;
  std::vector<std::string> warnings;
};

// What was measured before, else measure_step_cost, which is kept. A file that is damaged is measured and written
// again. Without a cache directory every opening measures.
// manifest_sha256: the bundle's. cache_key: the session's. conditions: what else changes how long a step takes, as part
// of a file's name: "2-threads-avx512vnni".
OpenedStepCost open_step_cost(const CacheDirectory& cache, const std::string& manifest_sha256,
                              const std::string& cache_key, const std::string& conditions, const RunStep& run);

}  // namespace rubricrm
