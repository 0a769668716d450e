#include "runtime/machine.h"

#include <sched.h>

#include <algorithm>
#include <thread>

#include "runtime/control_group.h"

namespace rubricrm {
namespace {

int affinity() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));  // more cores than the set can hold
}

}  // namespace

int usable_cores(const fs::path& root) {
  const int most = affinity();
  const std::optional<double> quota = cpu_quota(root);
  return quota && *quota < most ? std::max(1, static_cast<int>(*quota)) : most;
}

}  // namespace rubricrm
