// Numbers of float16 in plain C++.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "packed_matrix.h"

namespace rubricrm {

RUBRICRM_INLINE float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31;
  const uint32_t mantissa = half & 1023;
  if (exponent == 0) {  // zero, or less than 2^-14
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -value : value;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
  float result;
  memcpy(&result, &bits, sizeof(result));
  return result;
}

// To nearest, ties to even.
RUBRICRM_INLINE uint16_t float_to_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000;
  const float magnitude = std::fabs(x);
  if (!(magnitude == magnitude)) return static_cast<uint16_t>(sign | 0x7e00 | ((bits >> 13) & 0x3ff));
  if (magnitude >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x1p-14f) {  // the last bit is worth 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(std::nearbyint(magnitude * 0x1p24f)));
  }
  bits &= 0x7fffffff;
  bits += 0xfff + ((bits >> 13) & 1);
  return static_cast<uint16_t>(sign | ((bits - (112u << 23)) >> 13));
}

}  // namespace rubricrm
