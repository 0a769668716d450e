// A graph opened by ONNX Runtime.
#pragma once

#include <memory>
#include <vector>

#include "runtime/onnxruntime_library.h"
#include "runtime/providers.h"

namespace rubricrm {

struct GraphOptions {
  std::string device;
  int threads;
  ProviderOptions provider;
  fs::path data_directory;   // where the external data lie; empty: beside the graph
  fs::path kernels_library;  // of operators that the graph needs and ONNX Runtime lacks; empty: none
};

// Runs from one thread at a time; `stop` may come from any.
class OnnxGraph {
 public:
  // Throws RuntimeRefusal: the runtime refused the graph, its data or the library.
  OnnxGraph(std::shared_ptr<OnnxRuntime> runtime, const fs::path& file, const GraphOptions& options);

  const OnnxRuntime& runtime() const { return *runtime_; }
  Handle<OrtIoBinding> new_binding() const;
  // Runs on what is bound. Throws RuntimeRefusal, also where it was stopped.
  void run(const OrtIoBinding* binding) const;
  // Lets a run in progress end at its next operator, and each that follows.
  void stop() const;

 private:
  std::shared_ptr<OnnxRuntime> runtime_;
  Handle<OrtRunOptions> run_options_;
  Handle<OrtSession> session_;
};

}  // namespace rubricrm
