// What the shared library exports: the registration that ONNX Runtime calls, and what a program may ask.
#include <exception>

#include "attention_operator.h"
#include "dispatch.h"
#include "operator.h"
#include "product_operators.h"

#define RUBRICRM_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr const char* kDomain = "rubricrm";

void register_operators(OrtSessionOptions* options, const OrtApiBase* base) {
  using rubricrm::check;
  const OrtApi* api = base->GetApi(rubricrm::kApiVersion);
  rubricrm::set_runtime(api);
  // The domain and its operators stay as long as the process: sessions refer to them.
  static OrtCustomOpDomain* const domain = [] {
    OrtCustomOpDomain* made = nullptr;
    check(rubricrm::runtime().CreateCustomOpDomain(kDomain, &made));
    for (const OrtCustomOp* op : rubricrm::product_operators()) {
      check(rubricrm::runtime().CustomOpDomain_Add(made, op));
    }
    check(rubricrm::runtime().CustomOpDomain_Add(made, rubricrm::attention_operator()));
    return made;
  }();
  check(rubricrm::runtime().AddCustomOpDomain(options, domain));
}

}  // namespace

// Adds the operators to a session's options: ONNX Runtime calls it by this name. Returns a status of the runtime, which
// the caller frees, or null.
RUBRICRM_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) noexcept {
  if (base->GetApi(rubricrm::kApiVersion) == nullptr) {
    // A runtime older than 1.21 has no table of this version; the first entry of every version makes a status.
    const OrtApi* oldest = base->GetApi(1);
    return rubricrm::Runtime(oldest).CreateStatus(ORT_FAIL, "rubricrm's kernels need ONNX Runtime 1.21 or later");
  }
  try {
    register_operators(options, base);
    return nullptr;
  } catch (const std::exception& error) {
    return rubricrm::runtime().CreateStatus(ORT_FAIL, error.what());
  }
}

// The version of the operators of domain `rubricrm`, a whole number. The text is the library's.
RUBRICRM_EXPORT const char* rubricrm_kernels_operators() noexcept { return "1"; }

// The instruction set that runs in this process. The text is the library's.
RUBRICRM_EXPORT const char* rubricrm_kernels_instruction_set() noexcept { return rubricrm::dispatch().kernels->name; }

// Why the set that RUBRICRM_KERNELS names does not run here; null: it does, or none is named. The text is the library's.
RUBRICRM_EXPORT const char* rubricrm_kernels_problem() noexcept {
  const std::string& problem = rubricrm::dispatch().problem;
  return problem.empty() ? nullptr : problem.c_str();
}
