// The devices that graphs run on, and what each one's execution provider is told. CUDA and TensorRT are compiled here
// and were not run.
#pragma once

#include "runtime/bundle.h"
#include "runtime/graph_choice.h"
#include "runtime/onnxruntime_library.h"

namespace rubricrm {

// Why a device cannot be used here, and the remedy; none where nothing is known to be missing. Throws OPTION_INVALID:
// unknown device.
Problem device_problem(const OnnxRuntime& runtime, const std::string& device);

// What a provider of TensorRT is told, as pairs of names and values: an engine is built for ranges of shapes, and kept
// in `engines`, a directory; empty: it is not kept.
using ProviderOptions = std::vector<std::pair<std::string, std::string>>;
ProviderOptions provider_options(const std::string& device, const ModelFacts& model, int max_rows,
                                 const fs::path& engines);

// Adds a device's provider to a graph's options. Throws RuntimeRefusal.
void append_provider(const OnnxRuntime& runtime, const std::string& device, const ProviderOptions& provider,
                     OrtSessionOptions* options);

}  // namespace rubricrm
