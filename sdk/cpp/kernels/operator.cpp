#include "operator.h"

#include <climits>
#include <memory>

namespace rubricrm {
namespace {

Runtime the_runtime;

// Calls a function and turns what it throws into a status, which the runtime frees.
template <class Function>
OrtStatus* guarded(const char* name, Function function) noexcept {
  try {
    function();
    return nullptr;
  } catch (const std::exception& error) {
    return the_runtime.CreateStatus(ORT_INVALID_ARGUMENT, (std::string(name) + ": " + error.what()).c_str());
  } catch (...) {
    return the_runtime.CreateStatus(ORT_FAIL, name);
  }
}

const Operator& self(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

std::string text(const std::vector<int64_t>& shape) {
  std::string result = "[";
  for (const int64_t size : shape) result += (result.size() > 1 ? ", " : "") + std::to_string(size);
  return result + "]";
}

// A kernel with the name of its operator, for errors.
struct NamedKernel {
  const char* name;
  std::unique_ptr<Kernel> kernel;
};

}  // namespace

const Runtime& runtime() { return the_runtime; }

void set_runtime(const OrtApi* api) { the_runtime = Runtime(api); }

void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = the_runtime.GetErrorMessage(status);
  the_runtime.ReleaseStatus(status);
  throw OperatorError(message);
}

int64_t Tensor::size() const {
  int64_t result = 1;
  for (const int64_t dimension : shape) result *= dimension;
  return result;
}

Tensor read_tensor(const OrtValue* value) {
  Tensor tensor;
  if (value == nullptr) return tensor;
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  check(the_runtime.GetTensorTypeAndShape(value, &raw));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> info(
      raw, [](OrtTensorTypeAndShapeInfo* held) { the_runtime.ReleaseTensorTypeAndShapeInfo(held); });
  size_t rank = 0;
  check(the_runtime.GetDimensionsCount(info.get(), &rank));
  tensor.shape.resize(rank);
  check(the_runtime.GetDimensions(info.get(), tensor.shape.data(), rank));
  check(the_runtime.GetTensorElementType(info.get(), &tensor.type));
  check(the_runtime.GetTensorMutableData(const_cast<OrtValue*>(value), &tensor.data));
  tensor.is_present = true;
  return tensor;
}

void require_shape(const Tensor& tensor, const std::vector<int64_t>& shape, const std::string& name) {
  if (tensor.shape != shape) {
    throw OperatorError(name + " has the shape " + text(tensor.shape) + ", expected " + text(shape));
  }
}

int64_t NodeInfo::integer(const char* name) const {
  int64_t value = 0;
  check(the_runtime.KernelInfoGetAttribute_int64(info_, name, &value));
  return value;
}

float NodeInfo::number(const char* name) const {
  float value = 0;
  check(the_runtime.KernelInfoGetAttribute_float(info_, name, &value));
  return value;
}

Tensor NodeInfo::constant(size_t index) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  check(the_runtime.KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
  return is_constant != 0 ? read_tensor(value) : Tensor{};
}

Tensor NodeRun::input(size_t index) const {
  size_t count = 0;
  check(the_runtime.KernelContext_GetInputCount(context_, &count));
  if (index >= count) return {};
  const OrtValue* value = nullptr;
  check(the_runtime.KernelContext_GetInput(context_, index, &value));
  return read_tensor(value);
}

Tensor NodeRun::output(const std::vector<int64_t>& shape) {
  OrtValue* value = nullptr;
  check(the_runtime.KernelContext_GetOutput(context_, 0, shape.data(), shape.size(), &value));
  return read_tensor(value);
}

void NodeRun::run(size_t count, void (*task)(void*, size_t), void* data) {
  check(the_runtime.KernelContext_ParallelFor(context_, task, count, 0, data));
}

Operator::Operator(const char* operator_name, std::vector<InputKind> kinds, Kernel* (*maker)(const NodeInfo&))
    : OrtCustomOp{}, name(operator_name), inputs(std::move(kinds)), make(maker) {
  version = kApiVersion;
  GetName = [](const OrtCustomOp* op) { return self(op).name; };
  GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU
  GetInputTypeCount = [](const OrtCustomOp* op) { return self(op).inputs.size(); };
  GetInputType = [](const OrtCustomOp* op, size_t index) { return self(op).inputs[index].type; };
  GetInputCharacteristic = [](const OrtCustomOp* op, size_t index) {
    return self(op).inputs[index].is_optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetVariadicInputMinArity = GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputMinArity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
  CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
    return guarded(self(op).name, [&] {
      std::unique_ptr<Kernel> made(self(op).make(NodeInfo(info)));
      *kernel = new NamedKernel{self(op).name, std::move(made)};
    });
  };
  KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
    const auto* named = static_cast<NamedKernel*>(kernel);
    return guarded(named->name, [&] {
      NodeRun node(context);
      named->kernel->run(node);
    });
  };
  KernelDestroy = [](void* kernel) { delete static_cast<NamedKernel*>(kernel); };
}

}  // namespace rubricrm
