// This project's library of CPU kernels: where it is, whether it can be used here, and which instructions it runs.
#pragma once

#include <string>

#include "runtime/whole_file.h"

namespace rubricrm {

// The library, or why there is none. `library` is empty where it is not used.
struct Kernels {
  fs::path library;
  std::string operators;        // version of the operators that it provides
  std::string instruction_set;  // "avx512amx", "avx512vnni", "avx2", "neon_i8mm", "neon_dotprod" or "plain"
  std::string problem;          // why it is not used, in one clause with the remedy; empty: it is
};

// Loads the library (1 ms), which then stays. `chosen` is its file; empty: the file that RUBRICRM_KERNELS_LIBRARY
// names, else librubricrm_kernels.so beside this library, or in the folder `rubricrm` there. RUBRICRM_KERNELS names an
// instruction set in place of the processor's best, or "off".
Kernels find_kernels(const fs::path& chosen = {});

// The directory of the file that holds this code: a library or a program.
fs::path own_directory_of_code();

}  // namespace rubricrm
