// Plain C++: the reference that every other set is compared with, and what runs on a processor without any of them.
#include <cmath>

#define RUBRICRM_UNROLL(times)
#include "half.h"
#include "kernel_bodies.h"

namespace rubricrm {
namespace {

struct PlainSet {
  struct V {
    float lane[kLanes];
  };
  struct I {
    int32_t lane[kLanes];
  };

  template <class Function>
  static RUBRICRM_INLINE V each(Function function) {
    V result;
    for (int i = 0; i < kLanes; ++i) result.lane[i] = function(i);
    return result;
  }
  template <class Function>
  static RUBRICRM_INLINE I each_int(Function function) {
    I result;
    for (int i = 0; i < kLanes; ++i) result.lane[i] = function(i);
    return result;
  }

  static V load(const float* p) {
    V result;
    memcpy(&result, p, sizeof(result));
    return result;
  }
  static V load(const uint16_t* p) {
    return each([&](int i) { return half_to_float(p[i]); });
  }
  static V load(const int8_t* p) {
    return each([&](int i) { return static_cast<float>(p[i]); });
  }
  static void store(float* p, const V& a) { memcpy(p, &a, sizeof(a)); }
  static void store_half(uint16_t* p, const V& a) {
    for (int i = 0; i < kLanes; ++i) p[i] = float_to_half(a.lane[i]);
  }
  static V splat(float x) {
    return each([&](int) { return x; });
  }
  static V add(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static V sub(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static V mul(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static V div(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static V fma(const V& a, const V& b, const V& c) {
    return each([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static V max(const V& a, const V& b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static V absolute(const V& a) {
    return each([&](int i) { return std::fabs(a.lane[i]); });
  }
  static V round(const V& a) {
    return each([&](int i) { return std::nearbyint(a.lane[i]); });
  }
  static V power_of_two(const V& a) {
    return each([&](int i) {
      if (!(a.lane[i] == a.lane[i])) return a.lane[i];
      const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(a.lane[i]) + 127) << 23;
      float result;
      memcpy(&result, &bits, sizeof(result));
      return result;
    });
  }
  static float sum(const V& a) {
    float lane[kLanes];
    memcpy(lane, a.lane, sizeof(lane));
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
    }
    return lane[0];
  }
  static float largest(const V& a) {
    float result = a.lane[0];
    for (int i = 1; i < kLanes; ++i) result = a.lane[i] > result ? a.lane[i] : result;
    return result;
  }
  static void sums4(const V& a, const V& b, const V& c, const V& d, float* out) {
    const V* all[] = {&a, &b, &c, &d};
    for (int i = 0; i < 4; ++i) out[i] = sum(*all[i]);
  }

  static I zero_int() {
    return each_int([](int) { return 0; });
  }
  static I to_int(const V& a) {
    return each_int([&](int i) { return static_cast<int32_t>(std::lrint(a.lane[i])); });
  }
  static V to_float(const I& a) {
    return each([&](int i) { return static_cast<float>(a.lane[i]); });
  }
  static I add(const I& a, const I& b) {
    return each_int([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static int32_t sum(const I& a) {
    int32_t result = 0;
    for (int i = 0; i < kLanes; ++i) result += a.lane[i];
    return result;
  }
  template <int Bits>
  static void store_codes(int8_t* p, const I& a) {
    static constexpr int kInterleaved[] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int8_t>(a.lane[Bits == 4 ? kInterleaved[i] : i]);
  }
  static I offset(const uint8_t* zero_points, int middle, int32_t sum) {
    return each_int([&](int i) { return -(zero_points == nullptr ? middle : zero_points[i]) * sum; });
  }

  static constexpr int kMostRows = 2;
  static constexpr int kManyRows = 2;
  static constexpr int vectors(int /*rows*/) { return 4; }

  template <int Bits, int Rows, int Vectors, bool IsStream>
  static void dot(I (&sums)[Rows][Vectors], const uint8_t* codes, const int8_t* x, int64_t stride, int groups,
                  const Prefetch& /*prefetch*/) {
    constexpr int kInputs = 32 / Bits;
    for (int group = 0; group < groups; ++group, codes += 4 * kTile, x += kInputs) {
      for (int v = 0; v < Vectors; ++v) {
        for (int i = 0; i < kLanes; ++i) {
          const uint8_t* four = codes + 4 * (kLanes * v + i);
          for (int row = 0; row < Rows; ++row) {
            int32_t product = 0;
            for (int k = 0; k < kInputs; ++k) {
              const int code = Bits == 8 ? four[k] : k < 4 ? four[k] & 15 : four[k - 4] >> 4;
              product += code * x[row * stride + k];
            }
            sums[row][v].lane[i] += product;
          }
        }
      }
    }
  }
};

}  // namespace

constexpr KernelTable plain_kernels = make_table<PlainSet>("plain", [] { return true; });

}  // namespace rubricrm
