#!/usr/bin/env bash
# Compiles onnxruntime_abi_test.cpp against the header of ONNX Runtime that Debian 13 ships, fetched into a directory:
#   onnxruntime_abi.sh DIRECTORY
# No package is installed. Where the header cannot be had (no Debian, no network) the test is skipped, and says so.
set -euo pipefail
directory=$(mkdir -p "$1" && cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
header=usr/include/onnxruntime/onnxruntime_c_api.h

skip() {
  echo "Skipped: onnxruntime_abi_test ($1)"
  exit 0
}

# apt with lists and sources of its own: this machine's are left alone.
debian13() {
  apt-get -qq -o Dir::Etc::sourcelist="$directory/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::State::lists="$directory/lists" -o Dir::Cache="$directory/cache" -o APT::Sandbox::User= "$@"
}

fetch_header() {
  local mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Created-By: Packages' | sed -n '\|/debian/*$|{p;q}')
  [ -n "$mirror" ] || return 1
  mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial"
  echo "deb [signed-by=$keyring] $mirror trixie main" > "$directory/sources.list"
  debian13 update && (cd "$directory" && debian13 download libonnxruntime-dev && dpkg -x libonnxruntime-dev_*.deb .)
}

command -v "${CXX:-c++}" > /dev/null || skip "no C++ compiler"
if [ ! -e "$directory/$header" ]; then
  command -v apt-get dpkg > /dev/null || skip "Debian's packages cannot be had here"
  fetch_header || skip "Debian's package libonnxruntime-dev could not be fetched"
fi
"${CXX:-c++}" -std=c++17 -fsyntax-only -Wall -Wextra -Werror -I"$root/sdk/cpp" \
  -isystem "$directory/${header%/*}" "$root/tests/cpp/onnxruntime_abi_test.cpp"
echo "Passed: onnxruntime_abi_test"
