// NEON with dotprod: four bytes of weights meet four bytes of inputs, both signed.
#include "neon_set.h"
#include "processor.h"

namespace rubricrm {
namespace {

struct NeonDotprodSet : NeonSet {
  template <int Bits, int Rows, int Vectors, bool IsStream>
  static RUBRICRM_INLINE void dot(I (&sums)[Rows][Vectors], const uint8_t* codes, const int8_t* x, int64_t stride,
                                  int groups, const Prefetch& /*prefetch*/) {
    constexpr int kInputs = 32 / Bits;
    // Codes of 8 bits are made signed: 128 times the sum of the inputs is what that leaves out.
    int32x4_t input_sums[Rows];
    for (int row = 0; row < Rows; ++row) input_sums[row] = vdupq_n_s32(0);
    for (int group = 0; group < groups; ++group, codes += 4 * kTile, x += kInputs) {
      int8x16_t first[Rows];
      int8x16_t second[Rows];
      RUBRICRM_UNROLL(4)
      for (int row = 0; row < Rows; ++row) {
        first[row] = four_inputs(x + row * stride);
        if (Bits == 4) second[row] = four_inputs(x + row * stride + 4);
        if (Bits == 8) input_sums[row] = vdotq_s32(input_sums[row], vdupq_n_s8(1), first[row]);
      }
      RUBRICRM_UNROLL(8)
      for (int part = 0; part < 4 * Vectors; ++part) {
        const uint8x16_t both = vld1q_u8(codes + 16 * part);
        const int8x16_t low = vreinterpretq_s8_u8(Bits == 4 ? vandq_u8(both, vdupq_n_u8(15))
                                                            : veorq_u8(both, vdupq_n_u8(128)));
        const int8x16_t high = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
        RUBRICRM_UNROLL(4)
        for (int row = 0; row < Rows; ++row) {
          int32x4_t& sum = sums[row][part / 4].part[part % 4];
          sum = vdotq_s32(sum, low, first[row]);
          if (Bits == 4) sum = vdotq_s32(sum, high, second[row]);
        }
      }
    }
    if (Bits == 8) {
      for (int row = 0; row < Rows; ++row) {
        for (int part = 0; part < 4 * Vectors; ++part) {
          int32x4_t& sum = sums[row][part / 4].part[part % 4];
          sum = vaddq_s32(sum, vshlq_n_s32(input_sums[row], 7));
        }
      }
    }
  }
};

}  // namespace

constexpr KernelTable neon_dotprod_kernels = make_table<NeonDotprodSet>("neon_dotprod", has_dotprod);

}  // namespace rubricrm
