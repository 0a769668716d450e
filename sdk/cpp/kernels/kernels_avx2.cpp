// AVX2: pairs of byte products in 16 bits. Codes of 8 bits are split into halves, since their products do not fit.
#include <immintrin.h>

#include "kernel_bodies.h"
#include "processor.h"

namespace rubricrm {
namespace {

struct Avx2Set {
  struct V {
    __m256 low;
    __m256 high;
  };
  struct I {
    __m256i low;
    __m256i high;
  };

  static RUBRICRM_INLINE V load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static RUBRICRM_INLINE V load(const uint16_t* p) {
    const auto* halves = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
  }
  static RUBRICRM_INLINE V load(const int8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
  }
  static RUBRICRM_INLINE void store(float* p, V a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
  }
  static RUBRICRM_INLINE void store_half(uint16_t* p, V a) {
    auto* halves = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(halves, _mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(halves + 1, _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT));
  }
  static RUBRICRM_INLINE V splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static RUBRICRM_INLINE V add(V a, V b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
  static RUBRICRM_INLINE V sub(V a, V b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
  static RUBRICRM_INLINE V mul(V a, V b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
  static RUBRICRM_INLINE V div(V a, V b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
  static RUBRICRM_INLINE V fma(V a, V b, V c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static RUBRICRM_INLINE V max(V a, V b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
  static RUBRICRM_INLINE V absolute(V a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
  }
  static RUBRICRM_INLINE V round(V a) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.low, kNearest), _mm256_round_ps(a.high, kNearest)};
  }
  static RUBRICRM_INLINE __m256 power_of_two(__m256 a) {
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23);
    return _mm256_blendv_ps(_mm256_castsi256_ps(bits), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  }
  static RUBRICRM_INLINE V power_of_two(V a) { return {power_of_two(a.low), power_of_two(a.high)}; }
  static RUBRICRM_INLINE __m128 halves(V a) {  // lanes 0..7 + lanes 8..15, then by 4
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  }
  static RUBRICRM_INLINE float sum(V a) {
    const __m128 four = halves(a);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static RUBRICRM_INLINE void sums4(V a, V b, V c, V d, float* out) {
    const __m128 ha = halves(a);
    const __m128 hb = halves(b);
    const __m128 hc = halves(c);
    const __m128 hd = halves(d);
    const __m128 ab = _mm_add_ps(_mm_movelh_ps(ha, hb), _mm_movehl_ps(hb, ha));
    const __m128 cd = _mm_add_ps(_mm_movelh_ps(hc, hd), _mm_movehl_ps(hd, hc));
    _mm_storeu_ps(out, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd)));
  }
  static RUBRICRM_INLINE float largest(V a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }

  static RUBRICRM_INLINE I zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static RUBRICRM_INLINE I to_int(V a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
  static RUBRICRM_INLINE V to_float(I a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
  static RUBRICRM_INLINE I add(I a, I b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  static RUBRICRM_INLINE int32_t sum(I a) {
    const __m256i eight = _mm256_add_epi32(a.low, a.high);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
  }
  template <int Bits>
  static RUBRICRM_INLINE void store_codes(int8_t* p, I a) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xd8);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    if (Bits == 4) {
      bytes = _mm_shuffle_epi8(bytes, _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }
  static RUBRICRM_INLINE I offset(const uint8_t* zero_points, int middle, int32_t sum) {
    const __m256i factor = _mm256_set1_epi32(-sum);
    if (zero_points == nullptr) {
      const __m256i same = _mm256_set1_epi32(-sum * middle);
      return {same, same};
    }
    const __m128i zeros = _mm_loadu_si128(reinterpret_cast<const __m128i*>(zero_points));
    return {_mm256_mullo_epi32(_mm256_cvtepu8_epi32(zeros), factor),
            _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(zeros, 8)), factor)};
  }

  static constexpr int kMostRows = 4;
  static constexpr int kManyRows = 4;
  static constexpr int vectors(int rows) { return rows == 1 ? 2 : 1; }

  static RUBRICRM_INLINE __m256i four_inputs(const int8_t* x) { return _mm256_set1_epi32(four_codes(x)); }

  // Products of four groups of codes fit 16 bits: 8 x 2 x 15 x 127 = 30,480.
  template <int Bits, int Rows, int Vectors, bool IsStream>
  static RUBRICRM_INLINE void dot(I (&sums)[Rows][Vectors], const uint8_t* codes, const int8_t* x, int64_t stride,
                                  int groups, const Prefetch& prefetch) {
    constexpr int kInputs = 32 / Bits;
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i sixteens = _mm256_set1_epi16(16);
    for (int first = 0; first < groups; first += 4) {
      __m256i low16[Rows][2 * Vectors];
      __m256i high16[Rows][2 * Vectors];  // of 8 bits only
      RUBRICRM_UNROLL(4)
      for (int row = 0; row < Rows; ++row) {
        RUBRICRM_UNROLL(4)
        for (int v = 0; v < 2 * Vectors; ++v) {
          low16[row][v] = _mm256_setzero_si256();
          high16[row][v] = _mm256_setzero_si256();
        }
      }
      RUBRICRM_UNROLL(4)
      for (int group = 0; group < 4; ++group, codes += 4 * kTile, x += kInputs) {
        RUBRICRM_UNROLL(4)
        for (int v = 0; v < 2 * Vectors; ++v) {
          const uint8_t* here = codes + 32 * v;
          if (IsStream && v % 2 == 0) prefetch.request(first + group, v / 2);
          const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(here));
          const __m256i low = _mm256_and_si256(both, mask);
          const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
          RUBRICRM_UNROLL(4)
          for (int row = 0; row < Rows; ++row) {
            const __m256i inputs = four_inputs(x + row * stride);
            low16[row][v] = _mm256_add_epi16(low16[row][v], _mm256_maddubs_epi16(low, inputs));
            if (Bits == 4) {
              const __m256i more = four_inputs(x + row * stride + 4);
              low16[row][v] = _mm256_add_epi16(low16[row][v], _mm256_maddubs_epi16(high, more));
            } else {
              high16[row][v] = _mm256_add_epi16(high16[row][v], _mm256_maddubs_epi16(high, inputs));
            }
          }
        }
      }
      RUBRICRM_UNROLL(4)
      for (int row = 0; row < Rows; ++row) {
        RUBRICRM_UNROLL(4)
        for (int v = 0; v < 2 * Vectors; ++v) {
          __m256i& sum = v % 2 == 0 ? sums[row][v / 2].low : sums[row][v / 2].high;
          sum = _mm256_add_epi32(sum, _mm256_madd_epi16(low16[row][v], ones));
          if (Bits == 8) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(high16[row][v], sixteens));
        }
      }
    }
  }
};

}  // namespace

constexpr KernelTable avx2_kernels = make_table<Avx2Set>("avx2", has_avx2);

}  // namespace rubricrm
