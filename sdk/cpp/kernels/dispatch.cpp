#include "dispatch.h"

#include <cstdlib>

namespace rubricrm {

std::vector<const KernelTable*> built_kernels() {
  return {
#if defined(__x86_64__)
      &avx512amx_kernels,
      &avx512vnni_kernels,
      &avx2_kernels,
#elif defined(__aarch64__)
      &neon_i8mm_kernels,
      &neon_dotprod_kernels,
#endif
      &plain_kernels,
  };
}

Dispatch choose_kernels(const char* name) {
  const std::string wanted = name == nullptr ? "" : name;
  std::string known;
  for (const KernelTable* kernels : built_kernels()) {
    known += (known.empty() ? "" : ", ") + std::string(kernels->name);
    if (!wanted.empty() && wanted != kernels->name) continue;
    if (kernels->is_supported()) return {kernels, ""};
    if (!wanted.empty()) return {&plain_kernels, "this processor cannot run " + wanted};
  }
  return {&plain_kernels, "'" + wanted + "' is none of " + known};
}

const Dispatch& dispatch() {
  static const Dispatch chosen = choose_kernels(std::getenv("RUBRICRM_KERNELS"));
  return chosen;
}

}  // namespace rubricrm
