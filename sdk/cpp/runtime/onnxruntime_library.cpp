#include "runtime/onnxruntime_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

#include "error.h"
#include "runtime/kernels.h"

namespace rubricrm {
namespace {

constexpr const char* kVariable = "RUBRICRM_ONNXRUNTIME";
constexpr const char* kNames[] = {"libonnxruntime.so.1", "libonnxruntime.so"};

[[noreturn]] void missing(const std::string& what) {
  throw Error(Code::RUNTIME_MISSING,
              what +
                  ". Name the library of ONNX Runtime 1.21 or later (its Python package has it too, in "
                  "onnxruntime/capi/) with the option or with " +
                  kVariable + ".");
}

// Its symbols stay its own: a program may hold another copy, linked into a module of Python, say.
void* open_library(const fs::path& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); }

void* find_library(const fs::path& chosen) {
  const char* variable = std::getenv(kVariable);
  const fs::path named = !chosen.empty() ? chosen : fs::path(variable == nullptr ? "" : variable);
  if (!named.empty()) {
    void* library = open_library(named);
    if (library == nullptr) missing("ONNX Runtime cannot be loaded (" + std::string(dlerror()) + ")");
    return library;
  }
  for (const char* name : kNames) {
    if (void* library = open_library(own_directory_of_code() / name)) return library;
    if (void* library = open_library(name)) return library;
  }
  missing("ONNX Runtime was not found: there is no " + std::string(kNames[0]) +
          " beside this library, nor where the system looks for libraries");
}

}  // namespace

std::shared_ptr<OnnxRuntime> OnnxRuntime::load(const fs::path& chosen) {
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  void* library = find_library(chosen);
  using GetBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetBase>(dlsym(library, "OrtGetApiBase"));
  if (get_base == nullptr) missing("the library that was given is not ONNX Runtime (it lacks OrtGetApiBase)");
  const OrtApiBase* base = get_base();
  const std::string version = base->GetVersionString();
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) missing("ONNX Runtime " + version + " is too old");
  return std::shared_ptr<OnnxRuntime>(new OnnxRuntime(api, version));
}

OnnxRuntime::OnnxRuntime(const OrtApi* api, std::string version)
    : api_(api), version_(std::move(version)), process_(getpid()) {
  check(api_.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "rubricrm", &environment_));
}

OnnxRuntime::~OnnxRuntime() {
  // In a fork its threads are not there, and destroying it would wait for them.
  if (process_ == getpid()) api_.ReleaseEnv(environment_);
}

void OnnxRuntime::check(OrtStatus* status) const {
  if (status == nullptr) return;
  const Handle<OrtStatus> owned(status, api_.ReleaseStatus);
  throw RuntimeRefusal(api_.GetErrorMessage(status));
}

std::vector<std::string> OnnxRuntime::available_providers() const {
  char** names = nullptr;
  int count = 0;
  check(api_.GetAvailableProviders(&names, &count));
  const std::vector<std::string> found(names, names + count);
  check(api_.ReleaseAvailableProviders(names, count));
  return found;
}

}  // namespace rubricrm
