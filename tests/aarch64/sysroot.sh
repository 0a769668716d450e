#!/usr/bin/env bash
# Makes what librubricrm for ARM is built against and run with under emulation: sysroot.sh DIRECTORY
# It holds Debian 12's libcrypto and nlohmann-json, and ONNX Runtime; DIRECTORY/emulate, which is written last, runs a program.
set -euo pipefail
source "$(dirname "$0")/fetch.sh"
directory=$(mkdir -p "$1" && cd "$1" && pwd)

skip() {
  echo "Skipped: librubricrm, aarch64 ($1)"
  exit 0
}

command -v qemu-aarch64-static > /dev/null || skip "no qemu-aarch64-static"
fetch_packages "$directory" libssl-dev nlohmann-json3-dev || skip "Debian's packages could not be fetched"
mapfile -t wanted < <(required cpu)
fetch_wheels "$directory" "${wanted[@]}" || skip "ONNX Runtime for ARM could not be fetched"
(cd "$directory" && ln -sfn site/onnxruntime/capi/libonnxruntime.so.* libonnxruntime.so)
describe_processor "$directory"
# The C and C++ libraries are the cross compiler's own.
ln -sfn "$(dirname "$(realpath "$(aarch64-linux-gnu-g++ -print-file-name=libc.so.6)")")" "$directory/root/lib"
printf '#!/bin/sh\nexec qemu-aarch64-static -cpu max -L "%s/root" "$@"\n' "$directory" > "$directory/emulate"
chmod +x "$directory/emulate"
