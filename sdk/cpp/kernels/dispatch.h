// Which instruction set runs: the best that this processor has, or the one that RUBRICRM_KERNELS names.
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"

namespace rubricrm {

struct Dispatch {
  const KernelTable* kernels;  // plain where there is a problem
  std::string problem;         // why the set that was asked for does not run; empty: it does
};

// The sets of this build, best first; plain C++ is the last.
std::vector<const KernelTable*> built_kernels();

// Chooses by a name, or by the processor where it is null or empty.
Dispatch choose_kernels(const char* name);

// The choice of this process, made at the first call.
const Dispatch& dispatch();

}  // namespace rubricrm
