// What both NEON sets share: everything but the integer products. See kernel_bodies.h for the meaning of each function.
#pragma once

#include <arm_neon.h>

#include "kernel_bodies.h"

namespace rubricrm {
namespace {

struct NeonSet {
  struct V {
    float32x4_t part[4];
  };
  struct I {
    int32x4_t part[4];
  };

  template <class Function>
  static RUBRICRM_INLINE V each(Function function) {
    return {{function(0), function(1), function(2), function(3)}};
  }
  template <class Function>
  static RUBRICRM_INLINE I each_int(Function function) {
    return {{function(0), function(1), function(2), function(3)}};
  }

  static RUBRICRM_INLINE V load(const float* p) {
    return each([&](int i) { return vld1q_f32(p + 4 * i); });
  }
  static RUBRICRM_INLINE V load(const uint16_t* p) {
    return each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
  }
  static RUBRICRM_INLINE V load(const int8_t* p) {
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes));
    const int16x8_t high = vmovl_s8(vget_high_s8(bytes));
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
  }
  static RUBRICRM_INLINE void store(float* p, V a) {
    for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.part[i]);
  }
  static RUBRICRM_INLINE void store_half(uint16_t* p, V a) {
    for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.part[i])));
  }
  static RUBRICRM_INLINE V splat(float x) {
    return each([&](int) { return vdupq_n_f32(x); });
  }
  static RUBRICRM_INLINE V add(V a, V b) {
    return each([&](int i) { return vaddq_f32(a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE V sub(V a, V b) {
    return each([&](int i) { return vsubq_f32(a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE V mul(V a, V b) {
    return each([&](int i) { return vmulq_f32(a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE V div(V a, V b) {
    return each([&](int i) { return vdivq_f32(a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE V fma(V a, V b, V c) {
    return each([&](int i) { return vfmaq_f32(c.part[i], a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE V max(V a, V b) {
    return each([&](int i) { return vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE V absolute(V a) {
    return each([&](int i) { return vabsq_f32(a.part[i]); });
  }
  static RUBRICRM_INLINE V round(V a) {
    return each([&](int i) { return vrndnq_f32(a.part[i]); });
  }
  static RUBRICRM_INLINE V power_of_two(V a) {
    return each([&](int i) {
      const int32x4_t bits = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(a.part[i]), vdupq_n_s32(127)), 23);
      const uint32x4_t is_number = vceqq_f32(a.part[i], a.part[i]);
      return vbslq_f32(is_number, vreinterpretq_f32_s32(bits), a.part[i]);
    });
  }
  static RUBRICRM_INLINE float sum(V a) {
    const float32x4_t four = vaddq_f32(vaddq_f32(a.part[0], a.part[2]), vaddq_f32(a.part[1], a.part[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  static RUBRICRM_INLINE void sums4(V a, V b, V c, V d, float* out) {
    out[0] = sum(a);
    out[1] = sum(b);
    out[2] = sum(c);
    out[3] = sum(d);
  }
  static RUBRICRM_INLINE float largest(V a) {
    const float32x4_t four = vmaxq_f32(vmaxq_f32(a.part[0], a.part[1]), vmaxq_f32(a.part[2], a.part[3]));
    return vmaxvq_f32(four);
  }

  static RUBRICRM_INLINE I zero_int() {
    return each_int([](int) { return vdupq_n_s32(0); });
  }
  static RUBRICRM_INLINE I to_int(V a) {
    return each_int([&](int i) { return vcvtnq_s32_f32(a.part[i]); });
  }
  static RUBRICRM_INLINE V to_float(I a) {
    return each([&](int i) { return vcvtq_f32_s32(a.part[i]); });
  }
  static RUBRICRM_INLINE I add(I a, I b) {
    return each_int([&](int i) { return vaddq_s32(a.part[i], b.part[i]); });
  }
  static RUBRICRM_INLINE int32_t sum(I a) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(a.part[0], a.part[1]), vaddq_s32(a.part[2], a.part[3])));
  }
  template <int Bits>
  static RUBRICRM_INLINE void store_codes(int8_t* p, I a) {
    const int16x8_t low = vcombine_s16(vmovn_s32(a.part[0]), vmovn_s32(a.part[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(a.part[2]), vmovn_s32(a.part[3]));
    int8x16_t bytes = vcombine_s8(vmovn_s16(low), vmovn_s16(high));
    if (Bits == 4) {
      static constexpr uint8_t kInterleaved[] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
      bytes = vqtbl1q_s8(bytes, vld1q_u8(kInterleaved));
    }
    vst1q_s8(p, bytes);
  }
  static RUBRICRM_INLINE I offset(const uint8_t* zero_points, int middle, int32_t sum) {
    if (zero_points == nullptr) {
      return each_int([&](int) { return vdupq_n_s32(-sum * middle); });
    }
    const uint8x16_t zeros = vld1q_u8(zero_points);
    const uint16x8_t half[] = {vmovl_u8(vget_low_u8(zeros)), vmovl_u8(vget_high_u8(zeros))};
    return each_int([&](int i) {
      const uint16x4_t four = i % 2 == 0 ? vget_low_u16(half[i / 2]) : vget_high_u16(half[i / 2]);
      return vmulq_n_s32(vreinterpretq_s32_u32(vmovl_u16(four)), -sum);
    });
  }

  static RUBRICRM_INLINE int8x16_t four_inputs(const int8_t* x) {
    return vreinterpretq_s8_s32(vdupq_n_s32(four_codes(x)));
  }

  static constexpr int kMostRows = 4;
  static constexpr int kManyRows = 4;
  static constexpr int vectors(int rows) { return rows <= 2 ? 2 : 1; }
};

}  // namespace
}  // namespace rubricrm
