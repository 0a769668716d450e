// What sdk/cpp/onnxruntime/abi.h declares equals ONNX Runtime's own header: compiling this file is the test.
// An enumerator that is added there needs its line here; what else is added there and not here does not compile.
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ours {
#include "onnxruntime/abi.h"
}  // namespace ours

#include <onnxruntime_c_api.h>

static_assert(ours::rubricrm::kApiVersion == ORT_API_VERSION, "the header is of another version");

// The type of theirs that a type of ours stands for. `noexcept` is dropped: it changes no call.
template <typename T>
struct Theirs {
  using type = T;
};
template <typename T>
using theirs = typename Theirs<T>::type;
template <typename T>
struct Theirs<T*> {
  using type = theirs<T>*;
};
template <typename T>
struct Theirs<const T> {
  using type = const theirs<T>;
};
template <typename Result, typename... Parameters>
struct Theirs<Result(Parameters...)> {
  using type = theirs<Result>(theirs<Parameters>...);
};
template <typename Result, typename... Parameters>
struct Theirs<Result(Parameters...) noexcept> {
  using type = theirs<Result>(theirs<Parameters>...);
};

#define STANDS_FOR(name)       \
  template <>                  \
  struct Theirs<ours::name> {  \
    using type = ::name;       \
  };
STANDS_FOR(OrtApi)
STANDS_FOR(OrtCUDAProviderOptionsV2)
STANDS_FOR(OrtCustomOp)
STANDS_FOR(OrtCustomOpDomain)
STANDS_FOR(OrtEnv)
STANDS_FOR(OrtIoBinding)
STANDS_FOR(OrtKernelContext)
STANDS_FOR(OrtKernelInfo)
STANDS_FOR(OrtMemoryInfo)
STANDS_FOR(OrtRunOptions)
STANDS_FOR(OrtSession)
STANDS_FOR(OrtSessionOptions)
STANDS_FOR(OrtShapeInferContext)
STANDS_FOR(OrtStatus)
STANDS_FOR(OrtTensorRTProviderOptionsV2)
STANDS_FOR(OrtTensorTypeAndShapeInfo)
STANDS_FOR(OrtValue)
STANDS_FOR(OrtAllocatorType)
STANDS_FOR(OrtErrorCode)
STANDS_FOR(OrtLoggingLevel)
STANDS_FOR(ONNXTensorElementDataType)
STANDS_FOR(OrtCustomOpInputOutputCharacteristic)
STANDS_FOR(OrtMemType)

// Theirs warn where a result is not used, which is no part of a type.
#pragma GCC diagnostic ignored "-Wignored-attributes"
#define SAME_TYPE(mine, other) std::is_same_v<theirs<decltype(mine)>, theirs<decltype(other)>>

// The table of functions.
#define CHECK_ENTRY(name, index, result, parameters)                                    \
  static_assert(offsetof(OrtApi, name) == (index) * sizeof(void*), #name ": its index"); \
  static_assert(SAME_TYPE(ours::rubricrm::Runtime::name, OrtApi::name), #name ": its signature");
RUBRICRM_ONNXRUNTIME_ENTRIES(CHECK_ENTRY)

// The structures.
#define CHECK_MEMBER(type, name)                                                             \
  static_assert(offsetof(ours::type, name) == offsetof(::type, name), #type "::" #name);    \
  static_assert(SAME_TYPE(ours::type::name, ::type::name), #type "::" #name ": its type");
CHECK_MEMBER(OrtApiBase, GetApi)
CHECK_MEMBER(OrtApiBase, GetVersionString)
static_assert(sizeof(ours::OrtApiBase) == sizeof(OrtApiBase), "a member of OrtApiBase is missing");

CHECK_MEMBER(OrtCustomOp, version)
CHECK_MEMBER(OrtCustomOp, CreateKernel)
CHECK_MEMBER(OrtCustomOp, GetName)
CHECK_MEMBER(OrtCustomOp, GetExecutionProviderType)
CHECK_MEMBER(OrtCustomOp, GetInputType)
CHECK_MEMBER(OrtCustomOp, GetInputTypeCount)
CHECK_MEMBER(OrtCustomOp, GetOutputType)
CHECK_MEMBER(OrtCustomOp, GetOutputTypeCount)
CHECK_MEMBER(OrtCustomOp, KernelCompute)
CHECK_MEMBER(OrtCustomOp, KernelDestroy)
CHECK_MEMBER(OrtCustomOp, GetInputCharacteristic)
CHECK_MEMBER(OrtCustomOp, GetOutputCharacteristic)
CHECK_MEMBER(OrtCustomOp, GetInputMemoryType)
CHECK_MEMBER(OrtCustomOp, GetVariadicInputMinArity)
CHECK_MEMBER(OrtCustomOp, GetVariadicInputHomogeneity)
CHECK_MEMBER(OrtCustomOp, GetVariadicOutputMinArity)
CHECK_MEMBER(OrtCustomOp, GetVariadicOutputHomogeneity)
CHECK_MEMBER(OrtCustomOp, CreateKernelV2)
CHECK_MEMBER(OrtCustomOp, KernelComputeV2)
CHECK_MEMBER(OrtCustomOp, InferOutputShapeFn)
CHECK_MEMBER(OrtCustomOp, GetStartVersion)
CHECK_MEMBER(OrtCustomOp, GetEndVersion)
CHECK_MEMBER(OrtCustomOp, GetMayInplace)
CHECK_MEMBER(OrtCustomOp, ReleaseMayInplace)
CHECK_MEMBER(OrtCustomOp, GetAliasMap)
CHECK_MEMBER(OrtCustomOp, ReleaseAliasMap)
static_assert(sizeof(ours::OrtCustomOp) == sizeof(OrtCustomOp), "a member of OrtCustomOp is missing");

// The enumerations.
#define CHECK_ENUM(name) static_assert(sizeof(ours::name) == sizeof(::name), #name ": its size");
#define CHECK_VALUE(name) static_assert(static_cast<int>(ours::name) == static_cast<int>(::name), #name);
CHECK_ENUM(OrtErrorCode)
CHECK_VALUE(ORT_FAIL)
CHECK_VALUE(ORT_INVALID_ARGUMENT)
CHECK_VALUE(ORT_INVALID_GRAPH)
CHECK_ENUM(ONNXTensorElementDataType)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16)
CHECK_VALUE(ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16)
CHECK_ENUM(OrtCustomOpInputOutputCharacteristic)
CHECK_VALUE(INPUT_OUTPUT_REQUIRED)
CHECK_VALUE(INPUT_OUTPUT_OPTIONAL)
CHECK_ENUM(OrtMemType)
CHECK_VALUE(OrtMemTypeDefault)
CHECK_ENUM(OrtAllocatorType)
CHECK_VALUE(OrtDeviceAllocator)
CHECK_ENUM(OrtLoggingLevel)
CHECK_VALUE(ORT_LOGGING_LEVEL_ERROR)
