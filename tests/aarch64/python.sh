#!/usr/bin/env bash
# Makes an ARM Python with what the SDK needs, to be run under emulation: python.sh DIRECTORY
# DIRECTORY/python then runs it. It is Debian 12's Python in a folder, and wheels: this machine's packages are left alone.
set -euo pipefail
directory=$(mkdir -p "$1" && cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
packages=(
  libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal libpython3.11-stdlib libssl3
  libstdc++6 libuuid1 python3.11-minimal zlib1g
)

skip() {
  echo "Skipped: tests/aarch64 ($1)"
  exit 0
}

# apt with an architecture, lists and sources of its own.
arm_debian() {
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc::sourcelist="$directory/sources.list" \
    -o Dir::Etc::sourceparts=- -o Dir::State::status="$directory/status" -o Dir::State::lists="$directory/lists" \
    -o Dir::Cache="$directory/cache" -o APT::Sandbox::User= "$@"
}

fetch_python() {
  local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | sed -n '\|/debian/*$|{p;q}')
  [ -n "$mirror" ] || return 1
  mkdir -p "$directory"/{lists/partial,cache/archives/partial,debs}
  touch "$directory/status"
  echo "deb [signed-by=$keyring] $mirror bookworm main" > "$directory/sources.list"
  arm_debian update || return 1
  (cd "$directory/debs" && arm_debian download "${packages[@]}") || return 1
  for deb in "$directory"/debs/*.deb; do dpkg -x "$deb" "$directory/root"; done
}

fetch_wheels() {
  local wanted
  mapfile -t wanted < <("$root/.venv/bin/python" - "$root/pyproject.toml" <<'PYTHON'
import sys, tomllib
from pathlib import Path
project = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["cpu"]))
PYTHON
  )
  "$root/.venv/bin/python" -m pip --disable-pip-version-check --quiet install --no-deps --target "$directory/site" \
    --only-binary=:all: --implementation cp --python-version 3.11 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 "${wanted[@]}"
}

# ONNX Runtime asks this file what the processor is, and does not survive that of another architecture.
describe_processor() {
  mkdir -p "$directory/root/proc"
  for processor in 0 1; do
    printf 'processor\t: %s\nFeatures\t: fp asimd fphp asimdhp asimddp i8mm\nCPU implementer\t: 0x41\n' "$processor"
    printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd40\nCPU revision\t: 1\n\n'
  done > "$directory/root/proc/cpuinfo"
}

command -v qemu-aarch64-static > /dev/null || skip "no qemu-aarch64-static"
command -v apt-get dpkg > /dev/null || skip "Debian's packages cannot be had here"
fetch_python || skip "Debian's packages could not be fetched"
fetch_wheels
describe_processor
cat > "$directory/python" <<SCRIPT
#!/bin/sh
exec qemu-aarch64-static -cpu max -L '$directory/root' -E PYTHONPATH='$directory/site:$root/sdk/python' \\
  '$directory/root/usr/bin/python3.11' "\$@"
SCRIPT
chmod +x "$directory/python"
