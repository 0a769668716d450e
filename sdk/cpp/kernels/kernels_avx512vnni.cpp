// AVX-512 with VNNI: 64 bytes of weights meet 4 bytes of inputs in one instruction.
#include <immintrin.h>

#include "kernel_bodies.h"
#include "processor.h"

namespace rubricrm {
namespace {

struct Avx512Set {
  using V = __m512;
  using I = __m512i;

  static RUBRICRM_INLINE V load(const float* p) { return _mm512_loadu_ps(p); }
  static RUBRICRM_INLINE V load(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static RUBRICRM_INLINE V load(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static RUBRICRM_INLINE void store(float* p, V a) { _mm512_storeu_ps(p, a); }
  static RUBRICRM_INLINE void store_half(uint16_t* p, V a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }
  static RUBRICRM_INLINE V splat(float x) { return _mm512_set1_ps(x); }
  static RUBRICRM_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
  static RUBRICRM_INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static RUBRICRM_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static RUBRICRM_INLINE V div(V a, V b) { return _mm512_div_ps(a, b); }
  static RUBRICRM_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static RUBRICRM_INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
  static RUBRICRM_INLINE V absolute(V a) { return _mm512_abs_ps(a); }
  static RUBRICRM_INLINE V round(V a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static RUBRICRM_INLINE V power_of_two(V a) {
    const I bits = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23);
    const __mmask16 is_number = _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q);
    return _mm512_mask_mov_ps(a, is_number, _mm512_castsi512_ps(bits));
  }
  static RUBRICRM_INLINE __m128 halves(V a) {  // lanes 0..7 + lanes 8..15, then by 4
    const __m256 high = _mm512_extractf32x8_ps(a, 1);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), high);
    return _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  }
  static RUBRICRM_INLINE float sum(V a) {
    const __m128 four = halves(a);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static RUBRICRM_INLINE void sums4(V a, V b, V c, V d, float* out) {
    // Two vectors are halved at once: [a0..7 + a8..15 | b0..7 + b8..15], and so on down.
    const V ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const V cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    const V four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    const V two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
    const V one = _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
    const I places = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(places, one)));
  }
  static RUBRICRM_INLINE float largest(V a) { return _mm512_reduce_max_ps(a); }

  static RUBRICRM_INLINE I zero_int() { return _mm512_setzero_si512(); }
  static RUBRICRM_INLINE I to_int(V a) { return _mm512_cvtps_epi32(a); }
  static RUBRICRM_INLINE V to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static RUBRICRM_INLINE I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static RUBRICRM_INLINE int32_t sum(I a) { return _mm512_reduce_add_epi32(a); }
  template <int Bits>
  static RUBRICRM_INLINE void store_codes(int8_t* p, I a) {
    if (Bits == 4) {
      const I places = _mm512_set_epi32(15, 13, 11, 9, 14, 12, 10, 8, 7, 5, 3, 1, 6, 4, 2, 0);
      a = _mm512_permutexvar_epi32(places, a);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
  }
  // A sum of 128 codes and a zero point both fit 16 bits.
  static RUBRICRM_INLINE I offset(const uint8_t* zero_points, int middle, int32_t sum) {
    const I zeros = zero_points == nullptr
                        ? _mm512_set1_epi32(middle)
                        : _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zero_points)));
    return _mm512_dpwssd_epi32(_mm512_setzero_si512(), zeros, _mm512_set1_epi32(static_cast<uint16_t>(-sum)));
  }

  static constexpr int kMostRows = 12;
  static constexpr int kManyRows = 6;
  static constexpr int vectors(int rows) { return rows <= 4 ? 4 : 2; }

  static RUBRICRM_INLINE I four_inputs(const int8_t* x) { return _mm512_set1_epi32(four_codes(x)); }

  template <int Bits, int Rows, int Vectors, bool IsStream>
  static RUBRICRM_INLINE void dot(I (&sums)[Rows][Vectors], const uint8_t* codes, const int8_t* x, int64_t stride,
                                  int groups, const Prefetch& prefetch) {
    // With few rows an instruction would wait for the one before: two sums of each take turns.
    constexpr bool kHasTwo = Rows * Vectors <= 8;
    constexpr int kSecond = kHasTwo ? 1 : 0;
    I all[kSecond + 1][Rows][Vectors];
    RUBRICRM_UNROLL(12)
    for (int row = 0; row < Rows; ++row) {
      RUBRICRM_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) {
        all[0][row][v] = sums[row][v];
        if (kHasTwo) all[kSecond][row][v] = _mm512_setzero_si512();
      }
    }
    constexpr int kStep = Bits == 4 ? 1 : 2;  // groups at a time, so that both sums are used
    for (int group = 0; group < groups; group += kStep, codes += kStep * 4 * kTile, x += 8) {
      I low[Vectors];
      I high[Vectors];
      RUBRICRM_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) {
        const uint8_t* here = codes + 4 * kLanes * v;
        if (IsStream) prefetch.request(group, v);
        if (Bits == 4) {
          const I both = _mm512_loadu_si512(here);
          low[v] = _mm512_and_si512(both, _mm512_set1_epi8(15));
          high[v] = _mm512_and_si512(_mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
        } else {
          if (IsStream) prefetch.request(group + 1, v);
          low[v] = _mm512_loadu_si512(here);
          high[v] = _mm512_loadu_si512(here + 4 * kTile);
        }
      }
      RUBRICRM_UNROLL(12)
      for (int row = 0; row < Rows; ++row) {
        const I first = four_inputs(x + row * stride);
        const I second = four_inputs(x + row * stride + 4);
        RUBRICRM_UNROLL(4)
        for (int v = 0; v < Vectors; ++v) all[0][row][v] = _mm512_dpbusd_epi32(all[0][row][v], low[v], first);
        RUBRICRM_UNROLL(4)
        for (int v = 0; v < Vectors; ++v) {
          all[kSecond][row][v] = _mm512_dpbusd_epi32(all[kSecond][row][v], high[v], second);
        }
      }
    }
    RUBRICRM_UNROLL(12)
    for (int row = 0; row < Rows; ++row) {
      RUBRICRM_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) {
        sums[row][v] = kHasTwo ? _mm512_add_epi32(all[0][row][v], all[kSecond][row][v]) : all[0][row][v];
      }
    }
  }
};

}  // namespace

constexpr KernelTable avx512vnni_kernels = make_table<Avx512Set>("avx512vnni", has_avx512vnni);

}  // namespace rubricrm
