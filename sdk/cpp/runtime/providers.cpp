#include "runtime/providers.h"

#include <dlfcn.h>

#include <algorithm>
#include <map>

namespace rubricrm {
namespace {

const char* provider_of(const std::string& device) {
  static const std::map<std::string, const char*> providers{{"cpu", "CPUExecutionProvider"},
                                                            {"cuda", "CUDAExecutionProvider"},
                                                            {"tensorrt", "TensorrtExecutionProvider"},
                                                            {"tensorrt-rtx", "NvTensorRTRTXExecutionProvider"}};
  targets_of(device);  // refuses a name that is none
  return providers.at(device);
}

// The shapes of all inputs in a run of so many tokens: "name:1x8,...", as the providers parse it.
std::string shapes(const ModelFacts& model, int count) {
  const std::string tokens = "1x" + std::to_string(count);
  std::string text =
      "input_ids:" + tokens + ",position_ids:" + tokens + ",write_indices:1,logit_rows:" + std::to_string(count);
  const std::string cache = ":1x" + std::to_string(model.num_kv_heads) + "x" + std::to_string(model.context_length) +
                            "x" + std::to_string(model.head_dim);
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const char* half : {"key", "value"}) {
      text += ",past_key_values." + std::to_string(layer) + "." + half + cache;
    }
  }
  return text;
}

struct Pointers {
  std::vector<const char*> names, values;

  explicit Pointers(const ProviderOptions& options) {
    for (const auto& [name, value] : options) {
      names.push_back(name.c_str());
      values.push_back(value.c_str());
    }
  }
};

}  // namespace

Problem device_problem(const OnnxRuntime& runtime, const std::string& device) {
  const std::string provider = provider_of(device);
  const std::vector<std::string> available = runtime.available_providers();
  if (std::find(available.begin(), available.end(), provider) == available.end()) {
    return "onnxruntime " + runtime.version() + " has no " + provider + ": name a library that has it";
  }
  if (device == "cpu") return std::nullopt;
  void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) {
    return "no NVIDIA driver was found (" + std::string(dlerror()) +
           "). Install it; in a container, start that with its GPUs (--gpus all)";
  }
  return std::nullopt;
}

ProviderOptions provider_options(const std::string& device, const ModelFacts& model, int max_rows,
                                 const fs::path& engines) {
  if (device != "tensorrt" && device != "tensorrt-rtx") return {};
  const std::string prefix = device == "tensorrt" ? "trt" : "nv";
  // Decoding is what takes the time: the engine is tuned for one token.
  ProviderOptions options{{prefix + "_profile_min_shapes", shapes(model, 1)},
                          {prefix + "_profile_opt_shapes", shapes(model, 1)},
                          {prefix + "_profile_max_shapes", shapes(model, max_rows)}};
  if (engines.empty()) return options;
  if (device == "tensorrt-rtx") {
    options.emplace_back("nv_runtime_cache_path", engines.string());
    return options;
  }
  for (const char* kind : {"engine", "timing"}) {
    options.emplace_back(std::string("trt_") + kind + "_cache_enable", "1");
    options.emplace_back(std::string("trt_") + kind + "_cache_path", engines.string());
  }
  return options;
}

void append_provider(const OnnxRuntime& runtime, const std::string& device, const ProviderOptions& provider,
                     OrtSessionOptions* options) {
  const Runtime& api = runtime.api();
  const Pointers given(provider);
  if (device == "cuda") {
    const auto made = runtime.make<OrtCUDAProviderOptionsV2>(
        api.ReleaseCUDAProviderOptions, [&](auto** out) { return api.CreateCUDAProviderOptions(out); });
    runtime.check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, made.get()));
  } else if (device == "tensorrt") {
    const auto made = runtime.make<OrtTensorRTProviderOptionsV2>(
        api.ReleaseTensorRTProviderOptions, [&](auto** out) { return api.CreateTensorRTProviderOptions(out); });
    runtime.check(
        api.UpdateTensorRTProviderOptions(made.get(), given.names.data(), given.values.data(), given.names.size()));
    runtime.check(api.SessionOptionsAppendExecutionProvider_TensorRT_V2(options, made.get()));
  } else if (device == "tensorrt-rtx") {
    runtime.check(api.SessionOptionsAppendExecutionProvider(options, "NvTensorRTRTX", given.names.data(),
                                                            given.values.data(), given.names.size()));
  }
}

}  // namespace rubricrm
