#!/usr/bin/env bash
# Makes an ARM Python with what the SDK needs, to be run under emulation: python.sh DIRECTORY
# DIRECTORY/python, which is written last, then runs it. It is Debian 12's Python in a folder, and wheels.
set -euo pipefail
source "$(dirname "$0")/fetch.sh"
directory=$(mkdir -p "$1" && cd "$1" && pwd)
packages=(
  libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal libpython3.11-stdlib libssl3
  libstdc++6 libuuid1 python3.11-minimal zlib1g
)

skip() {
  echo "Skipped: tests/aarch64 ($1)"
  exit 0
}

command -v qemu-aarch64-static > /dev/null || skip "no qemu-aarch64-static"
fetch_packages "$directory" "${packages[@]}" || skip "Debian's packages could not be fetched"
mapfile -t wanted < <(required; required cpu)
fetch_wheels "$directory" "${wanted[@]}"
describe_processor "$directory"
cat > "$directory/python" <<SCRIPT
#!/bin/sh
exec qemu-aarch64-static -cpu max -L '$directory/root' -E PYTHONPATH='$directory/site:$root/sdk/python' \\
  '$directory/root/usr/bin/python3.11' "\$@"
SCRIPT
chmod +x "$directory/python"
