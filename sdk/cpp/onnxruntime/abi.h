// The part of ONNX Runtime's C API that the kernels and librubricrm use, declared here: no package of the runtime ships
// its header.
//
// The API is a table of function pointers that only grows at its end, so that an entry's index never changes.
// tests/cpp/onnxruntime_abi_test.cpp compares every index, signature and offset with the header of version 1.21.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtApi;
struct OrtCUDAProviderOptionsV2;
struct OrtCustomOpDomain;
struct OrtEnv;
struct OrtIoBinding;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtMemoryInfo;
struct OrtRunOptions;
struct OrtSession;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtTensorRTProviderOptionsV2;
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
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 = 10,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 = 16
};

enum OrtCustomOpInputOutputCharacteristic { INPUT_OUTPUT_REQUIRED = 0, INPUT_OUTPUT_OPTIONAL = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
enum OrtAllocatorType { OrtDeviceAllocator = 0 };
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };

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
  X(CreateEnv, 3, OrtStatus*, (OrtLoggingLevel level, const char* log_id, OrtEnv** out))                             \
  X(CreateSession, 7, OrtStatus*,                                                                                    \
    (const OrtEnv* env, const char* path, const OrtSessionOptions* options, OrtSession** out))                       \
  X(CreateSessionFromArray, 8, OrtStatus*,                                                                           \
    (const OrtEnv* env, const void* model, size_t size, const OrtSessionOptions* options, OrtSession** out))         \
  X(CreateSessionOptions, 10, OrtStatus*, (OrtSessionOptions** out))                                                 \
  X(DisableMemPattern, 17, OrtStatus*, (OrtSessionOptions* options))                                                 \
  X(SetSessionLogSeverityLevel, 22, OrtStatus*, (OrtSessionOptions* options, int level))                             \
  X(SetIntraOpNumThreads, 24, OrtStatus*, (OrtSessionOptions* options, int threads))                                 \
  X(SetInterOpNumThreads, 25, OrtStatus*, (OrtSessionOptions* options, int threads))                                 \
  X(CreateCustomOpDomain, 26, OrtStatus*, (const char* domain, OrtCustomOpDomain** out))                             \
  X(CustomOpDomain_Add, 27, OrtStatus*, (OrtCustomOpDomain* domain, const OrtCustomOp* op))                          \
  X(AddCustomOpDomain, 28, OrtStatus*, (OrtSessionOptions* options, OrtCustomOpDomain* domain))                      \
  X(CreateRunOptions, 39, OrtStatus*, (OrtRunOptions** out))                                                         \
  X(RunOptionsSetTerminate, 46, OrtStatus*, (OrtRunOptions* options))                                                \
  X(CreateTensorWithDataAsOrtValue, 49, OrtStatus*,                                                                  \
    (const OrtMemoryInfo* info, void* data, size_t size, const int64_t* shape, size_t rank,                          \
     ONNXTensorElementDataType type, OrtValue** out))                                                                \
  X(GetTensorMutableData, 51, OrtStatus*, (OrtValue* value, void** out))                                             \
  X(GetTensorElementType, 60, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType* out))   \
  X(GetDimensionsCount, 61, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, size_t* out))                        \
  X(GetDimensions, 62, OrtStatus*, (const OrtTensorTypeAndShapeInfo* info, int64_t* dims, size_t count))             \
  X(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue* value, OrtTensorTypeAndShapeInfo** out))                 \
  X(CreateMemoryInfo, 68, OrtStatus*,                                                                                \
    (const char* name, OrtAllocatorType allocator, int id, OrtMemType type, OrtMemoryInfo** out))                    \
  X(KernelInfoGetAttribute_float, 85, OrtStatus*, (const OrtKernelInfo* info, const char* name, float* out))         \
  X(KernelInfoGetAttribute_int64, 86, OrtStatus*, (const OrtKernelInfo* info, const char* name, int64_t* out))       \
  X(KernelContext_GetInputCount, 88, OrtStatus*, (const OrtKernelContext* context, size_t* out))                     \
  X(KernelContext_GetInput, 90, OrtStatus*, (const OrtKernelContext* context, size_t index, const OrtValue** out))   \
  X(KernelContext_GetOutput, 91, OrtStatus*,                                                                         \
    (OrtKernelContext* context, size_t index, const int64_t* dims, size_t count, OrtValue** out))                    \
  X(ReleaseEnv, 92, void, (OrtEnv* env))                                                                             \
  X(ReleaseStatus, 93, void, (OrtStatus* status))                                                                    \
  X(ReleaseMemoryInfo, 94, void, (OrtMemoryInfo* info))                                                              \
  X(ReleaseSession, 95, void, (OrtSession* session))                                                                 \
  X(ReleaseValue, 96, void, (OrtValue* value))                                                                       \
  X(ReleaseRunOptions, 97, void, (OrtRunOptions* options))                                                           \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo* info))                                      \
  X(ReleaseSessionOptions, 100, void, (OrtSessionOptions* options))                                                  \
  X(GetAvailableProviders, 125, OrtStatus*, (char*** out, int* count))                                               \
  X(ReleaseAvailableProviders, 126, OrtStatus*, (char** names, int count))                                           \
  X(AddSessionConfigEntry, 130, OrtStatus*, (OrtSessionOptions* options, const char* key, const char* value))        \
  X(RunWithBinding, 133, OrtStatus*,                                                                                 \
    (OrtSession* session, const OrtRunOptions* options, const OrtIoBinding* binding))                                \
  X(CreateIoBinding, 134, OrtStatus*, (OrtSession* session, OrtIoBinding** out))                                     \
  X(ReleaseIoBinding, 135, void, (OrtIoBinding* binding))                                                            \
  X(BindInput, 136, OrtStatus*, (OrtIoBinding* binding, const char* name, const OrtValue* value))                    \
  X(BindOutput, 137, OrtStatus*, (OrtIoBinding* binding, const char* name, const OrtValue* value))                   \
  X(SessionOptionsAppendExecutionProvider_TensorRT_V2, 170, OrtStatus*,                                              \
    (OrtSessionOptions* options, const OrtTensorRTProviderOptionsV2* provider))                                      \
  X(CreateTensorRTProviderOptions, 171, OrtStatus*, (OrtTensorRTProviderOptionsV2** out))                            \
  X(UpdateTensorRTProviderOptions, 172, OrtStatus*,                                                                  \
    (OrtTensorRTProviderOptionsV2* provider, const char* const* keys, const char* const* values, size_t count))      \
  X(ReleaseTensorRTProviderOptions, 174, void, (OrtTensorRTProviderOptionsV2* provider))                             \
  X(SessionOptionsAppendExecutionProvider_CUDA_V2, 204, OrtStatus*,                                                  \
    (OrtSessionOptions* options, const OrtCUDAProviderOptionsV2* provider))                                          \
  X(CreateCUDAProviderOptions, 205, OrtStatus*, (OrtCUDAProviderOptionsV2** out))                                    \
  X(ReleaseCUDAProviderOptions, 208, void, (OrtCUDAProviderOptionsV2* provider))                                     \
  X(SessionOptionsAppendExecutionProvider, 216, OrtStatus*,                                                          \
    (OrtSessionOptions* options, const char* provider, const char* const* keys, const char* const* values,           \
     size_t count))                                                                                                  \
  X(RegisterCustomOpsLibrary_V2, 228, OrtStatus*, (OrtSessionOptions* options, const char* library))                 \
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
