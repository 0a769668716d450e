// The part of ONNX Runtime's C API that the kernels use, declared here: no package of the runtime ships its header.
//
// The API is a table of function pointers that only grows at its end, so that an entry's index never changes.
// tests/cpp/onnxruntime_abi_test.cpp compares every index, signature and offset with the header of version 1.21.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtApi;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version) noexcept;
  const char* (*GetVersionString)() noexcept;
};

enum OrtErrorCode { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_INVALID_GRAPH = 10 };

enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED = 0,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10
};

enum OrtCustomOpInputOutputCharacteristic { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };

// What the runtime asks of an operator, in the order of version 21.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int** input_index, int** output_index);
  void (*ReleaseMayInplace)(int* input_index, int* output_index);
  size_t (*GetAliasMap)(int** input_index, int** output_index);
  void (*ReleaseAliasMap)(int* input_index, int* output_index);
};

namespace rubricrm {

// Version of the API that is asked for: the first with every entry below is older, this one is what was tested.
constexpr uint32_t kApiVersion = 21;

// X(name, index, result, parameters)
#define RUBRICRM_ONNXRUNTIME_ENTRIES(X)                                                                              \
  X(CreateStatus, 0, OrtStatus*, (OrtErrorCode code, const char* message))                                           \
  X(GetErrorMessage, 2, const char*, (const OrtStatus* status))                                                      \
  X(CreateCustomOpDomain, 26, OrtStatus*, (const char* domain, OrtCustomOpDomain** out))                             \
  X(CustomOpDomain_Add, 27, OrtStatus*, (OrtCustomOpDomain * domain, const OrtCustomOp* op))                         \
  X(AddCustomOpDomain, 28, OrtStatus*, (OrtSessionOptions * options, OrtCustomOpDomain * domain))                    \
  X(GetTensorMutableData, 51, OrtStatus*, (OrtValue * value, void** out))                                            \
  X(GetTensorElementType, 60, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType* out))   \
  X(GetDimensionsCount, 61, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, size_t* out))                        \
  X(GetDimensions, 62, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, int64_t* dims, size_t count))             \
  X(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue* value, OrtTensorTypeAndShapeInfo** out))                 \
  X(KernelInfoGetAttribute_float, 85, OrtStatus*, (const OrtKernelInfo* info, const char* name, float* out))         \
  X(KernelInfoGetAttribute_int64, 86, OrtStatus*, (const OrtKernelInfo* info, const char* name, int64_t* out))       \
  X(KernelContext_GetInputCount, 88, OrtStatus*, (const OrtKernelContext* context, size_t* out))                     \
  X(KernelContext_GetInput, 90, OrtStatus*, (const OrtKernelContext* context, size_t index, const OrtValue** out))   \
  X(KernelContext_GetOutput, 91, OrtStatus*,                                                                         \
    (OrtKernelContext * context, size_t index, const int64_t* dims, size_t count, OrtValue** out))                   \
  X(ReleaseStatus, 93, void, (OrtStatus * status))                                                                   \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo * info))                                     \
  X(KernelInfoGetConstantInput_tensor, 249, OrtStatus*,                                                              \
    (const OrtKernelInfo* info, size_t index, int* is_constant, const OrtValue** out))                               \
  X(KernelContext_ParallelFor, 274, OrtStatus*,                                                                      \
    (const OrtKernelContext* context, void (*fn)(void*, size_t), size_t total, size_t num_batch, void* user_data))

// The entries of a runtime's table, typed.
struct Runtime {
#define RUBRICRM_DECLARE(name, index, result, parameters) result(*name) parameters noexcept = nullptr;
  RUBRICRM_ONNXRUNTIME_ENTRIES(RUBRICRM_DECLARE)
#undef RUBRICRM_DECLARE

  Runtime() = default;

  explicit Runtime(const OrtApi* api) {
    const auto* table = reinterpret_cast<void* const*>(api);
#define RUBRICRM_READ(name, index, result, parameters) \
  name = reinterpret_cast<result(*) parameters noexcept>(table[index]);
    RUBRICRM_ONNXRUNTIME_ENTRIES(RUBRICRM_READ)
#undef RUBRICRM_READ
  }
};

}  // namespace rubricrm
