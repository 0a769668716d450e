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
options=() tree=(--preset "$preset")
if [ "$preset" = aarch64 ]; then
  sysroot=build/aarch64-sysroot
  [ -e $sysroot/emulate ] || tests/aarch64/sysroot.sh $sysroot
  [ -e $sysroot/emulate ] || options=(-DRUBRICRM_LIBRARY=OFF)
elif [ "$preset" != kernels ]; then
  library=ON
  printf '#include <nlohmann/json.hpp>\n#include <openssl/evp.h>\nint main() { return EVP_sha256() == nullptr; }\n' |
    $compiler -std=c++17 -x c++ - -lcrypto -o /dev/null 2> /dev/null || {
    library=OFF tree=("build/native/$preset")  # the preset names tests of the library
    echo "Skipped: librubricrm, $preset (no nlohmann-json or OpenSSL; Debian: nlohmann-json3-dev, libssl-dev)"
  }
  options=("-DRUBRICRM_LIBRARY=$library")
fi
set -x
"$cmake" --preset "$preset" "${options[@]}"
"$cmake" --build "${tree[@]}" --parallel 2
"$(dirname "$(command -v "$cmake")")/ctest" --preset "$preset"
