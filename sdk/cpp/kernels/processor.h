// What this processor and its system can run: all the instructions that the compiler may use for the set of that name.
#pragma once

namespace rubricrm {

#if defined(__x86_64__)
bool has_avx2();
bool has_avx512vnni();
bool has_amx();
#elif defined(__aarch64__)
bool has_dotprod();
bool has_i8mm();
#endif

}  // namespace rubricrm
