# What the folders for ARM are made of, sourced by sysroot.sh and python.sh. This machine's packages are left alone: an ARM
# libc6 among them would be mixed with the cross compiler's, and emulated programs would hang.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# apt with an architecture, lists and sources of its own: arm_apt DIRECTORY ARGUMENTS...
arm_apt() {
  local directory=$1
  shift
  apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::Etc::sourcelist="$directory/sources.list" \
    -o Dir::Etc::sourceparts=- -o Dir::State::status="$directory/status" -o Dir::State::lists="$directory/lists" \
    -o Dir::Cache="$directory/cache" -o APT::Sandbox::User= "$@"
}

# Extracts Debian 12's packages for ARM into DIRECTORY/root: fetch_packages DIRECTORY PACKAGE...
fetch_packages() {
  local directory=$1 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  shift
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || return 1
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | sed -n '\|/debian/*$|{p;q}')
  [ -n "$mirror" ] || return 1
  mkdir -p "$directory"/{lists/partial,cache/archives/partial,debs}
  touch "$directory/status"
  echo "deb [signed-by=$keyring] $mirror bookworm main" > "$directory/sources.list"
  arm_apt "$directory" update || return 1
  (cd "$directory/debs" && arm_apt "$directory" download "$@") || return 1
  for deb in "$directory"/debs/*.deb; do dpkg-deb -x "$deb" "$directory/root" || return 1; done
}

# Unpacks wheels for ARM and Python 3.11 into DIRECTORY/site: fetch_wheels DIRECTORY REQUIREMENT...
fetch_wheels() {
  local directory=$1
  shift
  "$root/.venv/bin/python" -m pip --disable-pip-version-check --quiet install --no-deps --upgrade --target "$directory/site" \
    --only-binary=:all: --implementation cp --python-version 3.11 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 "$@"
}

# The requirements of pyproject.toml, a line each: required EXTRA or, without one, the package's own
required() {
  "$root/.venv/bin/python" - "$root/pyproject.toml" "$@" <<'PYTHON'
import sys, tomllib
from pathlib import Path
project = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]
extras = sys.argv[2:]
print("\n".join(project["optional-dependencies"][extras[0]] if extras else project["dependencies"]))
PYTHON
}

# ONNX Runtime asks this file what the processor is, and does not survive that of another architecture.
describe_processor() {
  mkdir -p "$1/root/proc"
  for processor in 0 1; do
    printf 'processor\t: %s\nFeatures\t: fp asimd fphp asimdhp asimddp i8mm\nCPU implementer\t: 0x41\n' "$processor"
    printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd40\nCPU revision\t: 1\n\n'
  done > "$1/root/proc/cpuinfo"
}
