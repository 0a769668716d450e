#!/usr/bin/env bash
# Builds one preset of CMakePresets.json and runs its tests: build.sh PRESET CMAKE
# Without its compiler nothing is built; without the headers of other libraries the kernels alone are.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1 cmake=$2
compiler=${CXX:-c++}
needs=("${compiler%% *}")
[ "$preset" != aarch64 ] || { compiler=aarch64-linux-gnu-g++; needs=("$compiler" qemu-aarch64-static); }
for tool in "${needs[@]}"; do
  command -v "$tool" > /dev/null || { echo "Skipped: tests/cpp, $preset (no $tool)"; exit 0; }
done
options=()
if [ "$preset" != kernels ]; then
  library=ON
  printf '#include <nlohmann/json.hpp>\n#include <openssl/evp.h>\n' | $compiler -std=c++17 -fsyntax-only -x c++ - 2> /dev/null || {
    library=OFF
    echo "Skipped: librubricrm, $preset (no headers of nlohmann-json or OpenSSL; Debian: nlohmann-json3-dev, libssl-dev)"
  }
  options=("-DRUBRICRM_LIBRARY=$library")
fi
set -x
"$cmake" --preset "$preset" "${options[@]}"
"$cmake" --build --preset "$preset" --parallel 2
"$(dirname "$(command -v "$cmake")")/ctest" --preset "$preset"
