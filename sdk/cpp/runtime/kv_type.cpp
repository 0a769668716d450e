#include "runtime/kv_type.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace rubricrm {
namespace {

constexpr int64_t kStep = 256;  // so that requests of nearly equal length share a buffer

constexpr KvType kTypes[] = {
    {"float32", 4, 1, "F32", "float32", 0x7f800000}, {"float16", 2, 10, "F16", "float16", 0x7c00},
    {"bfloat16", 2, 16, "U16", "uint16", 0x7f80},    {"int8", 1, 3, "I8", "int8", 0},
    {"float8e4m3fn", 1, 17, "U8", "uint8", 0x7f},
};

template <class T>
int64_t count(std::string_view bytes, uint32_t bits) {
  const T mask = static_cast<T>(bits);
  int64_t found = 0;
  for (size_t at = 0; at + sizeof(T) <= bytes.size(); at += sizeof(T)) {
    T element;
    std::memcpy(&element, bytes.data() + at, sizeof(T));
    found += (element & mask) == mask;
  }
  return found;
}

}  // namespace

const KvType& kv_type(const std::string& name) {
  for (const KvType& type : kTypes) {
    if (name == type.name) return type;
  }
  throw std::out_of_range("KV type " + name);
}

int64_t count_not_finite(const KvType& type, std::string_view bytes) {
  if (type.no_number_bits == 0) return 0;
  switch (type.size) {
    case 4:
      return count<uint32_t>(bytes, type.no_number_bits);
    case 2:
      return count<uint16_t>(bytes, type.no_number_bits);
    default:
      return count<uint8_t>(bytes, type.no_number_bits);
  }
}

int64_t bytes_per_position(const ModelFacts& model, const KvType& type) {
  return 2 * model.num_layers * model.num_kv_heads * model.head_dim * type.size;
}

int64_t capacity_for(const ModelFacts& model, int64_t num_positions) {
  if (num_positions >= model.context_length) return model.context_length;
  return std::min((num_positions + kStep - 1) / kStep * kStep, model.context_length);
}

}  // namespace rubricrm
