// Memory of ours that a graph reads and writes in place.
#pragma once

#include <memory>
#include <vector>

#include "runtime/onnx_graph.h"

namespace rubricrm {

enum class Side { INPUT, OUTPUT };

// Values bound to a graph's inputs and outputs. Whoever binds memory owns it, and keeps it as long as it is bound.
class OnnxBinding {
 public:
  explicit OnnxBinding(const OnnxGraph& graph);

  // Binds memory of a shape, in elements of ONNX's type of a number. Throws RuntimeRefusal. Half a microsecond.
  void bind(Side side, const char* name, int onnx_type, const void* data, int64_t num_bytes,
            const std::vector<int64_t>& shape);
  const OrtIoBinding* get() const { return binding_.get(); }
  // Frees nothing: in a fork, where the runtime's locks may be held by threads that are not there.
  void leak() { binding_.release(); }

 private:
  const OnnxRuntime& runtime_;
  Handle<OrtMemoryInfo> memory_;
  Handle<OrtIoBinding> binding_;
};

// Integers of a step in memory that stays where it is: bound again only where their shape is another one.
class BoundIntegers {
 public:
  // `batch`: what stands before the count in the shape, 1 or nothing.
  BoundIntegers(const char* name, int64_t capacity, bool has_batch, int64_t value = 0)
      : name_(name), has_batch_(has_batch), values_(static_cast<size_t>(capacity), value) {}

  int64_t* values() { return values_.data(); }
  void bind(OnnxBinding& binding, int64_t count);
  void forget() { bound_ = -1; }

 private:
  const char* name_;
  bool has_batch_;
  std::vector<int64_t> values_;
  int64_t bound_ = -1;
};

}  // namespace rubricrm
