#include "runtime/onnx_binding.h"

namespace rubricrm {
namespace {

constexpr int kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

}  // namespace

OnnxBinding::OnnxBinding(const OnnxGraph& graph)
    : runtime_(graph.runtime()),
      memory_(runtime_.make<OrtMemoryInfo>(runtime_.api().ReleaseMemoryInfo,
                                           [&](auto** out) {
                                             return runtime_.api().CreateMemoryInfo("Cpu", OrtDeviceAllocator, 0,
                                                                                    OrtMemTypeDefault, out);
                                           })),
      binding_(graph.new_binding()) {}

void OnnxBinding::bind(Side side, const char* name, int onnx_type, const void* data, int64_t num_bytes,
                       const std::vector<int64_t>& shape) {
  const Runtime& api = runtime_.api();
  OrtValue* made = nullptr;
  runtime_.check(api.CreateTensorWithDataAsOrtValue(memory_.get(), const_cast<void*>(data),
                                                    static_cast<size_t>(num_bytes), shape.data(), shape.size(),
                                                    static_cast<ONNXTensorElementDataType>(onnx_type), &made));
  const Handle<OrtValue> value(made, api.ReleaseValue);
  runtime_.check(side == Side::INPUT ? api.BindInput(binding_.get(), name, made)
                                     : api.BindOutput(binding_.get(), name, made));
}

void BoundIntegers::bind(OnnxBinding& binding, int64_t count) {
  if (count == bound_) return;
  const std::vector<int64_t> shape = has_batch_ ? std::vector<int64_t>{1, count} : std::vector<int64_t>{count};
  binding.bind(Side::INPUT, name_, kInt64, values_.data(), count * static_cast<int64_t>(sizeof(int64_t)), shape);
  bound_ = count;
}

}  // namespace rubricrm
