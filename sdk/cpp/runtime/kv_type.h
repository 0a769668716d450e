// Element types of a KV cache, by the names of the manifest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/manifest.h"

namespace rubricrm {

struct KvType {
  const char* name;
  int64_t size;             // bytes per element
  int onnx_type;            // number of ONNX's element type (TensorProto.DataType)
  const char* safetensors;  // storage type in a prefix file
  const char* storage;      // the same as numpy names it, for messages
  uint32_t no_number_bits;  // bits that are all set in NaN and infinity; 0: it has neither
};

// Throws std::out_of_range: there is none of this name.
const KvType& kv_type(const std::string& name);

// How many elements are NaN or infinite.
int64_t count_not_finite(const KvType& type, std::string_view bytes);

// Bytes of keys and values of one position.
int64_t bytes_per_position(const ModelFacts& model, const KvType& type);

// The capacity of a cache for so many tokens: in steps of 256, the context at most.
int64_t capacity_for(const ModelFacts& model, int64_t num_positions);

}  // namespace rubricrm
