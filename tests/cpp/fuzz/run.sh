#!/usr/bin/env bash
# Builds the harnesses for libFuzzer and runs each for some seconds: run.sh CMAKE SECONDS
# What is found lies in build/native/fuzz/found. Without clang and its runtime nothing is run.
set -euo pipefail
cd "$(dirname "$0")/../../.."
cmake=$1 seconds=$2
echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
  clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2> /dev/null || {
  echo "Skipped: tests/cpp/fuzz (no clang++ with libFuzzer; Debian: clang, libclang-rt-14-dev)"
  exit 0
}
build=build/native/fuzz
"$cmake" --preset fuzz
"$cmake" --build --preset fuzz --parallel 2
python3 tests/cpp/fuzz/make_rubric_seeds.py "$build/seeds/rubric"
for name in bundle rubric tokenizer; do
  mkdir -p "$build/found/$name"
  seeds=("$build/found/$name")
  for folder in "tests/cpp/fuzz/seeds/$name" "$build/seeds/$name"; do [ ! -d "$folder" ] || seeds+=("$folder"); done
  echo "$name: $seconds seconds"
  "$build/tests/cpp/${name}_fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=4096 \
    -artifact_prefix="$build/found/" -verbosity=0 -print_final_stats=1 "${seeds[@]}" 2>&1 | tail -12
done
