// A library in the place of ONNX Runtime, for sanitizers, which do not see into the real one. It runs any graph of
// `slots`: a token's id is kept in the cache, and its logits follow from the ids before it.
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "onnxruntime/abi.h"

struct OrtStatus {
  std::string message;
};
struct OrtEnv {};
struct OrtMemoryInfo {};
struct OrtSessionOptions {};
struct OrtSession {};
struct OrtRunOptions {
  std::atomic<bool> terminate{false};
};
struct OrtValue {
  void* data;
  std::vector<int64_t> shape;
};
struct OrtIoBinding {
  std::map<std::string, OrtValue> values;
};

namespace {

constexpr int kLayers = 4;  // of the graph: between them it may be ended

OrtStatus* refuse(const char* message) { return new OrtStatus{message}; }

template <class T>
OrtStatus* make(T** out) {
  *out = new T();
  return nullptr;
}

template <class T>
void release(T* object) {
  delete object;
}

const int64_t* integers(const OrtIoBinding* binding, const char* name) {
  return static_cast<const int64_t*>(binding->values.at(name).data);
}

// What the cache holds of a position: the id that was written there.
class Cache {
 public:
  explicit Cache(const OrtIoBinding* binding)
      : value_(binding->values.at("kv_cache")),
        base_slots_(integers(binding, "base_slots")),
        base_lengths_(integers(binding, "base_lengths")) {}

  int16_t* at(int64_t slot, int64_t position) const {
    const std::vector<int64_t>& shape =
        value_.shape;  // [layers, 2, slots, heads, capacity, head_dim] of two bytes each
    return static_cast<int16_t*>(value_.data) + (slot * shape[3] * shape[4] + position) * shape[5];
  }

  float sum(int64_t slot, int64_t last) const {
    float sum = 0;
    for (int64_t position = 0; position <= last; ++position) {
      const int64_t holder = position < base_lengths_[slot] ? base_slots_[slot] : slot;
      sum += static_cast<float>(*at(holder, position) * (position + 1) % 97);
    }
    return sum;
  }

 private:
  const OrtValue& value_;
  const int64_t *base_slots_, *base_lengths_;
};

OrtStatus* run(OrtSession*, const OrtRunOptions* options, const OrtIoBinding* binding) noexcept {
  const Cache cache(binding);
  const OrtValue& ids = binding->values.at("input_ids");
  const int64_t *slots = integers(binding, "slots"), *positions = integers(binding, "positions");
  for (int64_t n = 0; n < ids.shape[0]; ++n) {
    *cache.at(slots[n], positions[n]) = static_cast<int16_t>(integers(binding, "input_ids")[n]);
  }
  for (int layer = 0; layer < kLayers; ++layer) {
    if (options->terminate) return refuse("Exiting due to terminate flag being set to true.");
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  const OrtValue& logits = binding->values.at("logits");
  for (int64_t row = 0; row < logits.shape[0]; ++row) {
    const int64_t token = integers(binding, "logit_rows")[row];
    const float sum = cache.sum(slots[token], positions[token]);
    float* const out = static_cast<float*>(logits.data) + row * logits.shape[1];
    for (int64_t n = 0; n < logits.shape[1]; ++n) out[n] = sum + static_cast<float>(n * 31 % 17);
  }
  return nullptr;
}

OrtStatus* bind(OrtIoBinding* binding, const char* name, const OrtValue* value) noexcept {
  binding->values[name] = *value;
  return nullptr;
}

OrtStatus* tensor(const OrtMemoryInfo*, void* data, size_t, const int64_t* shape, size_t rank,
                  ONNXTensorElementDataType, OrtValue** out) noexcept {
  *out = new OrtValue{data, std::vector<int64_t>(shape, shape + rank)};
  return nullptr;
}

OrtStatus* providers(char*** out, int* count) noexcept {
  static char name[] = "CPUExecutionProvider";
  static char* names[] = {name};
  *out = names;
  *count = 1;
  return nullptr;
}

// The table, whose entries that are not used end the process.
struct Table {
  void* entries[400];

  template <class Function>
  void set(int index, Function function) {
    entries[index] = reinterpret_cast<void*>(+function);
  }

  Table() {
    for (void*& entry : entries) entry = reinterpret_cast<void*>(+[] { std::abort(); });
    set(2, [](const OrtStatus* status) noexcept { return status->message.c_str(); });
    set(3, [](OrtLoggingLevel, const char*, OrtEnv** out) noexcept { return make(out); });
    set(7, [](const OrtEnv*, const char*, const OrtSessionOptions*, OrtSession** out) noexcept { return make(out); });
    set(10, [](OrtSessionOptions** out) noexcept { return make(out); });
    set(17, [](OrtSessionOptions*) noexcept { return static_cast<OrtStatus*>(nullptr); });
    for (const int index : {22, 24, 25})
      set(index, [](OrtSessionOptions*, int) noexcept { return static_cast<OrtStatus*>(nullptr); });
    set(39, [](OrtRunOptions** out) noexcept { return make(out); });
    set(46, [](OrtRunOptions* options) noexcept {
      options->terminate = true;
      return static_cast<OrtStatus*>(nullptr);
    });
    set(49, tensor);
    set(68, [](const char*, OrtAllocatorType, int, OrtMemType, OrtMemoryInfo** out) noexcept { return make(out); });
    set(92, release<OrtEnv>);
    set(93, release<OrtStatus>);
    set(94, release<OrtMemoryInfo>);
    set(95, release<OrtSession>);
    set(96, release<OrtValue>);
    set(97, release<OrtRunOptions>);
    set(100, release<OrtSessionOptions>);
    set(125, providers);
    set(126, [](char**, int) noexcept { return static_cast<OrtStatus*>(nullptr); });
    set(130, [](OrtSessionOptions*, const char*, const char*) noexcept { return static_cast<OrtStatus*>(nullptr); });
    set(133, run);
    set(134, [](OrtSession*, OrtIoBinding** out) noexcept { return make(out); });
    set(135, release<OrtIoBinding>);
    for (const int index : {136, 137}) set(index, bind);
    set(228, [](OrtSessionOptions*, const char*) noexcept { return static_cast<OrtStatus*>(nullptr); });
  }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const OrtApiBase* OrtGetApiBase() noexcept {
  static const Table table;
  static const OrtApiBase base{
      [](uint32_t) noexcept { return reinterpret_cast<const OrtApi*>(table.entries); },
      []() noexcept { return "1.99.0"; },
  };
  return &base;
}
