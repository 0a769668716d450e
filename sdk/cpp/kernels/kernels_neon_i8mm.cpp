// NEON with i8mm: two outputs meet two rows of inputs over eight bytes in one instruction; a row that is left over takes
// the dot product of unsigned with signed bytes.
#include "neon_set.h"
#include "processor.h"

namespace rubricrm {
namespace {

struct NeonI8mmSet : NeonSet {
  template <int Bits, int Rows, int Vectors, bool IsStream>
  static RUBRICRM_INLINE void dot(I (&sums)[Rows][Vectors], const uint8_t* codes, const int8_t* x, int64_t stride,
                                  int groups, const Prefetch& /*prefetch*/) {
    constexpr int kPairs = Rows / 2;
    constexpr int kParts = 4 * Vectors;  // of four outputs
    constexpr int kStep = Bits == 4 ? 1 : 2;  // groups that hold 8 inputs
    // Of each part and pair: outputs 0 and 1 with both rows, then outputs 2 and 3.
    int32x4_t pairs[kPairs == 0 ? 1 : kPairs][kParts][2];
    for (int pair = 0; pair < kPairs; ++pair) {
      for (int part = 0; part < kParts; ++part) pairs[pair][part][0] = pairs[pair][part][1] = vdupq_n_s32(0);
    }
    for (int group = 0; group < groups; group += kStep, codes += kStep * 4 * kTile, x += 8) {
      RUBRICRM_UNROLL(8)
      for (int part = 0; part < kParts; ++part) {
        const uint8_t* here = codes + 16 * part;
        const uint8x16_t bytes = vld1q_u8(here);
        const uint8x16_t first = Bits == 4 ? vandq_u8(bytes, vdupq_n_u8(15)) : bytes;
        const uint8x16_t second = Bits == 4 ? vshrq_n_u8(bytes, 4) : vld1q_u8(here + 4 * kTile);
        const uint32x4_t first4 = vreinterpretq_u32_u8(first);
        const uint32x4_t second4 = vreinterpretq_u32_u8(second);
        const uint8x16_t outputs01 = vreinterpretq_u8_u32(vzip1q_u32(first4, second4));
        const uint8x16_t outputs23 = vreinterpretq_u8_u32(vzip2q_u32(first4, second4));
        RUBRICRM_UNROLL(2)
        for (int pair = 0; pair < kPairs; ++pair) {
          const int8_t* row = x + 2 * pair * stride;
          const int8x16_t inputs = vcombine_s8(vld1_s8(row), vld1_s8(row + stride));
          pairs[pair][part][0] = vusmmlaq_s32(pairs[pair][part][0], outputs01, inputs);
          pairs[pair][part][1] = vusmmlaq_s32(pairs[pair][part][1], outputs23, inputs);
        }
        if (Rows % 2 == 1) {
          int32x4_t& sum = sums[Rows - 1][part / 4].part[part % 4];
          const int8_t* row = x + (Rows - 1) * stride;
          sum = vusdotq_s32(sum, first, four_inputs(row));
          sum = vusdotq_s32(sum, second, four_inputs(row + 4));
        }
      }
    }
    for (int pair = 0; pair < kPairs; ++pair) {
      for (int part = 0; part < kParts; ++part) {
        int32x4_t& even = sums[2 * pair][part / 4].part[part % 4];
        int32x4_t& odd = sums[2 * pair + 1][part / 4].part[part % 4];
        even = vaddq_s32(even, vuzp1q_s32(pairs[pair][part][0], pairs[pair][part][1]));
        odd = vaddq_s32(odd, vuzp2q_s32(pairs[pair][part][0], pairs[pair][part][1]));
      }
    }
  }
};

}  // namespace

constexpr KernelTable neon_i8mm_kernels = make_table<NeonI8mmSet>("neon_i8mm", has_i8mm);

}  // namespace rubricrm
