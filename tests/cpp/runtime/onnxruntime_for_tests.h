// The library of ONNX Runtime that tests use: the file that RUBRICRM_ONNXRUNTIME names, else that of the Python package
// in the source tree's .venv.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

// What a test program returns that was skipped.
constexpr int kSkipped = 77;

// Empty where there is none.
inline std::filesystem::path onnxruntime_for_tests() {
  namespace fs = std::filesystem;
  if (const char* chosen = std::getenv("RUBRICRM_ONNXRUNTIME")) return chosen;
  std::error_code error;
  for (const auto& python : fs::directory_iterator(fs::path(RUBRICRM_SOURCE) / ".venv/lib", error)) {
    const fs::path directory = python.path() / "site-packages/onnxruntime/capi";
    for (const auto& entry : fs::directory_iterator(directory, error)) {
      if (entry.path().filename().string().rfind("libonnxruntime.so", 0) == 0) return entry.path();
    }
  }
  return {};
}
