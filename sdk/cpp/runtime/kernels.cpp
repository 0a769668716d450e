#include "runtime/kernels.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

namespace rubricrm {
namespace {

constexpr const char* kSetVariable = "RUBRICRM_KERNELS";
constexpr const char* kLibraryVariable = "RUBRICRM_KERNELS_LIBRARY";
constexpr const char* kLibraryName = "librubricrm_kernels.so";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Kernels unusable(const std::string& problem) { return {{}, {}, {}, problem}; }

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

fs::path installed_library() {
  const fs::path directory = own_directory_of_code();
  for (const fs::path& place : {directory / kLibraryName, directory / "rubricrm" / kLibraryName}) {
    if (is_file(place)) return place;
  }
  return {};
}

Kernels load(const fs::path& path) {
  // It is never unloaded: graphs of any session may run its code.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) return unusable(path.string() + " cannot be loaded (" + dlerror() + "): build it again");
  using Text = const char* (*)();
  Text texts[3];
  const char* const names[] = {"rubricrm_kernels_operators", "rubricrm_kernels_instruction_set",
                               "rubricrm_kernels_problem"};
  for (int n = 0; n < 3; ++n) {
    texts[n] = reinterpret_cast<Text>(dlsym(library, names[n]));
    if (texts[n] == nullptr) {
      return unusable(path.string() + " cannot be loaded (it lacks " + names[n] + "): build it again");
    }
  }
  if (const char* problem = texts[2]()) {
    return unusable(std::string(kSetVariable) + " is " + variable(kSetVariable) + ": " + problem);
  }
  return {path, texts[0](), texts[1](), {}};
}

}  // namespace

Kernels find_kernels(const fs::path& chosen) {
  if (variable(kSetVariable) == "off") return unusable(std::string(kSetVariable) + " is off");
  const bool is_variable = chosen.empty();
  const fs::path named = is_variable ? fs::path(variable(kLibraryVariable)) : chosen;
  if (named.empty()) {
    const fs::path found = installed_library();
    if (!found.empty()) return load(found);
    return unusable(std::string("there is no ") + kLibraryName + " beside this library: build it, or name it");
  }
  std::error_code error;
  if (is_file(named)) return load(fs::absolute(named, error));
  return unusable((is_variable ? std::string(kLibraryVariable) + " names " : std::string("the option names ")) +
                  named.string() + ", where there is no file: name another, or none");
}

fs::path own_directory_of_code() {
  Dl_info info;
  std::error_code error;
  if (dladdr(reinterpret_cast<void*>(&own_directory_of_code), &info) == 0 || info.dli_fname == nullptr) return {};
  const fs::path file = fs::canonical(info.dli_fname, error);
  // A program that was found on the PATH has no path there.
  return error ? fs::canonical("/proc/self/exe", error).parent_path() : file.parent_path();
}

}  // namespace rubricrm
