// What an operator of ONNX Runtime needs: tensors, errors, and a C interface that no exception crosses.
#pragma once

#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "onnxruntime/abi.h"
#include "thread_pool.h"

namespace rubricrm {

// The entries of the runtime that loaded this library: set before any operator is made.
const Runtime& runtime();
void set_runtime(const OrtApi* api);

// A refusal that becomes the runtime's own error.
struct OperatorError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws the error of a status, which it frees.
void check(OrtStatus* status);

// A tensor of the runtime, or nothing (`data` null and no shape) where an optional input is missing.
struct Tensor {
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<int64_t> shape;
  void* data = nullptr;
  bool is_present = false;

  int64_t size() const;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

Tensor read_tensor(const OrtValue* value);

// Throws unless a tensor has this shape; `name` is for the message.
void require_shape(const Tensor& tensor, const std::vector<int64_t>& shape, const std::string& name);

// Attributes of a node, and the inputs that are known when its kernel is made.
class NodeInfo {
 public:
  explicit NodeInfo(const OrtKernelInfo* info) : info_(info) {}
  int64_t integer(const char* name) const;
  float number(const char* name) const;
  // The constant input at an index; absent where it is not constant.
  Tensor constant(size_t index) const;

 private:
  const OrtKernelInfo* info_;
};

// One run of a node. Its threads are the runtime's.
class NodeRun : public ThreadPool {
 public:
  explicit NodeRun(OrtKernelContext* context) : context_(context) {}
  Tensor input(size_t index) const;
  Tensor output(const std::vector<int64_t>& shape);
  void run(size_t count, void (*task)(void* data, size_t index), void* data) override;

 private:
  OrtKernelContext* context_;
};

// A node's kernel: made from its attributes, run any number of times.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(NodeRun& node) const = 0;
};

// An input: its type, UNDEFINED for any, and whether it may be missing.
struct InputKind {
  ONNXTensorElementDataType type;
  bool is_optional = false;
};

// An operator as the runtime sees it. `make` returns a new kernel, which the runtime owns.
struct Operator : OrtCustomOp {
  Operator(const char* name, std::vector<InputKind> inputs, Kernel* (*make)(const NodeInfo& info));

  const char* name;
  std::vector<InputKind> inputs;
  Kernel* (*make)(const NodeInfo& info);
};

}  // namespace rubricrm
