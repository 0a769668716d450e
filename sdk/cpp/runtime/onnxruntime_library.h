// ONNX Runtime, loaded at run time from a file: nothing is linked against it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "onnxruntime/abi.h"
#include "runtime/whole_file.h"

namespace rubricrm {

// What the runtime says of a call that failed.
struct RuntimeRefusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Owns one of the runtime's objects.
template <class T>
using Handle = std::unique_ptr<T, void (*)(T*)>;

class OnnxRuntime {
 public:
  // Loads a library and starts the runtime. `chosen`: its file; empty: the file that RUBRICRM_ONNXRUNTIME names, else
  // libonnxruntime.so.1 or libonnxruntime.so beside this library or where the system looks for libraries. It is never
  // unloaded. Sets ORT_DISABLE_TELEMETRY in this process where it is not set: packages of the runtime report to their
  // maker otherwise. Throws RUNTIME_MISSING.
  static std::shared_ptr<OnnxRuntime> load(const fs::path& chosen = {});
  ~OnnxRuntime();

  const Runtime& api() const { return api_; }
  const std::string& version() const { return version_; }  // "1.32.0"
  const OrtEnv* environment() const { return environment_; }
  std::vector<std::string> available_providers() const;

  // Throws RuntimeRefusal for a status that is an error.
  void check(OrtStatus* status) const;

  // Makes an object by a call that returns it through its last parameter.
  template <class T>
  Handle<T> make(void (*release)(T*), const std::function<OrtStatus*(T**)>& call) const {
    T* object = nullptr;
    check(call(&object));
    return Handle<T>(object, release);
  }

 private:
  OnnxRuntime(const OrtApi* api, std::string version);

  Runtime api_;
  std::string version_;
  OrtEnv* environment_ = nullptr;
  int process_;
};

}  // namespace rubricrm
