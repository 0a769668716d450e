// Every instruction set computes the bits of plain C++, and plain C++ computes what the contract says.
#include <cmath>
#include <cstring>
#include <limits>

#include "dispatch.h"
#include "expect.h"
#include "packed_case.h"

namespace {

using namespace rubricrm;

std::vector<const KernelTable*> other_sets() {
  std::vector<const KernelTable*> result;
  for (const KernelTable* kernels : built_kernels()) {
    if (kernels != &plain_kernels && kernels->is_supported()) result.push_back(kernels);
  }
  return result;
}

struct Rounded {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums;
  RoundedRows rows;

  Rounded(const KernelTable& kernels, const PackedMatrix& matrix, const std::vector<float>& x, int64_t count, int terms)
      : codes(count * terms * matrix.padded_inputs()),
        scales(count * terms * matrix.blocks()),
        sums(count * terms * matrix.blocks()) {
    rows = {codes.data(), scales.data(), sums.data(), matrix.padded_inputs(), matrix.blocks(), terms};
    for (int64_t row = 0; row < count; ++row) {
      kernels.round_row(&x[row * matrix.inputs], matrix, rows.from(row * terms));
    }
  }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void test_rounding() {
  Numbers numbers(1);
  for (const int bits : {4, 8}) {
    const PackedCase made(numbers, 64, 300, bits, 64, false);
    std::vector<float> x = numbers.floats(300);
    for (int i = 64; i < 128; ++i) x[i] = 0.0f;         // a block of zeros
    for (int i = 128; i < 192; ++i) x[i] *= 1e-37f;     // one whose scale would be infinite
    const Rounded plain(plain_kernels, made.matrix, x, 1, 3);
    for (int64_t k = 0; k < 64; ++k) {
      static constexpr int kPlace[] = {0, 4, 1, 5, 2, 6, 3, 7};
      const int64_t place = bits == 8 ? k : k / 8 * 8 + kPlace[k % 8];
      double sum = 0;
      for (int term = 0; term < 3; ++term) {
        sum += static_cast<double>(plain.scales[term * made.matrix.blocks()]) *
               plain.codes[term * made.matrix.padded_inputs() + place];
      }
      EXPECT(std::fabs(sum - x[k]) < 1e-6, "input %d is %g, its terms are %g", static_cast<int>(k), x[k], sum);
    }
    EXPECT(plain.scales[1] == 0.0f && plain.scales[2] == 0.0f, "scales %g %g", plain.scales[1], plain.scales[2]);
    for (const KernelTable* kernels : other_sets()) {
      const Rounded other(*kernels, made.matrix, x, 1, 3);
      EXPECT(other.codes == plain.codes && other.sums == plain.sums, "%s, %d bits", kernels->name, bits);
      EXPECT(same_bits(other.scales, plain.scales), "%s, %d bits", kernels->name, bits);
    }
  }
}

void test_wrong_inputs() {
  Numbers numbers(2);
  const PackedCase made(numbers, 64, 128, 4, 32, true);
  for (const float wrong : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x = numbers.floats(128);
    x[40] = wrong;
    for (const KernelTable* kernels : built_kernels()) {
      if (!kernels->is_supported()) continue;
      const Rounded rounded(*kernels, made.matrix, x, 1, 1);
      std::vector<float> y(64);
      kernels->multiply(made.matrix, 0, rounded.rows, 1, true, y.data());
      for (const float value : y) EXPECT(std::isnan(value), "%s turned %g into %g", kernels->name, wrong, value);
    }
  }
}

void check_product(Numbers& numbers, int64_t outputs, int64_t inputs, int bits, int block, bool has_zero_points) {
  const PackedCase made(numbers, outputs, inputs, bits, block, has_zero_points);
  constexpr int kRows = 66;  // more than any set takes at once
  const std::vector<float> x = numbers.floats(kRows * inputs);
  const Rounded rounded(plain_kernels, made.matrix, x, kRows, 1);
  for (int64_t tile = 0; tile < made.matrix.tiles(); ++tile) {
    std::vector<float> expected(kRows * kTile);
    for (int row = 0; row < kRows; ++row) {
      plain_kernels.multiply(made.matrix, tile, rounded.rows.from(row), 1, true, &expected[row * kTile]);
    }
    for (int lane = 0; lane < kTile && tile * kTile + lane < outputs; ++lane) {
      double sum = 0;
      double size = 0;
      for (int64_t k = 0; k < inputs; ++k) {
        static constexpr int kPlace[] = {0, 4, 1, 5, 2, 6, 3, 7};
        const int64_t place = bits == 8 ? k : k / 8 * 8 + kPlace[k % 8];
        const double product = made.weight(tile * kTile + lane, k) * rounded.codes[place] * rounded.scales[k / block];
        sum += product;
        size += std::fabs(product);
      }
      EXPECT(std::fabs(sum - expected[lane]) <= 1e-6 * size, "output %d: %g, expected %g", lane, expected[lane], sum);
    }
    for (const KernelTable* kernels : built_kernels()) {
      if (!kernels->is_supported()) continue;
      for (const bool is_stream : {true, false}) {
        for (int rows = 1; rows <= (is_stream ? kernels->most_rows : kernels->many_rows); ++rows) {
          std::vector<float> y(rows * kTile);
          kernels->multiply(made.matrix, tile, rounded.rows.from(kRows - rows), rows, is_stream, y.data());
          const std::vector<float> part(expected.end() - rows * kTile, expected.end());
          EXPECT(same_bits(y, part), "%s: %d rows, %d bits, blocks of %d", kernels->name, rows, bits, block);
        }
      }
    }
  }
}

void test_products() {
  Numbers numbers(3);
  for (const int bits : {4, 8}) {
    for (const int block : {32, 64, 128}) {
      for (const bool has_zero_points : {false, true}) {
        check_product(numbers, 64, block, bits, block, has_zero_points);
        check_product(numbers, 100, 3 * block + 8, bits, block, has_zero_points);
      }
    }
  }
}

// The largest sums that there are: every code 15 or 255, every input 127 or -127.
void test_extremes() {
  Numbers numbers(4);
  for (const int bits : {4, 8}) {
    PackedCase made(numbers, 64, 256, bits, 128, true);
    for (uint8_t& code : made.codes) code = 255;
    for (size_t i = 0; i < made.zero_points.size(); ++i) {
      made.zero_points[i] = i % 2 == 0 ? 0 : static_cast<uint8_t>((1 << bits) - 1);
    }
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> x(256, sign);
      const Rounded rounded(plain_kernels, made.matrix, x, 1, 1);
      std::vector<float> expected(64);
      plain_kernels.multiply(made.matrix, 0, rounded.rows, 1, true, expected.data());
      const double largest = ((1 << bits) - 1) * 127.0 * 128 * half_to_float(made.scales[0]) * (1 / 127.0f) +
                             ((1 << bits) - 1) * 127.0 * 128 * half_to_float(made.scales[64]) * (1 / 127.0f);
      EXPECT(std::fabs(expected[0] - sign * largest) < 1e-5 * largest, "%g, expected %g", expected[0], sign * largest);
      for (const KernelTable* kernels : other_sets()) {
        std::vector<float> y(64);
        kernels->multiply(made.matrix, 0, rounded.rows, 1, true, y.data());
        EXPECT(same_bits(y, expected), "%s, %d bits", kernels->name, bits);
      }
    }
  }
}

void test_gate() {
  Numbers numbers(5);
  std::vector<float> gates = numbers.floats(128, 4.0f);
  gates[0] = 200.0f;
  gates[1] = -200.0f;
  gates[2] = 0.0f;
  gates[3] = NAN;
  const std::vector<float> up = numbers.floats(128);
  std::vector<float> expected = up;
  plain_kernels.gate(gates.data(), expected.data(), 128);
  for (int i = 4; i < 128; ++i) {
    const double silu = gates[i] / (1.0 + std::exp(-static_cast<double>(gates[i])));
    EXPECT(std::fabs(expected[i] - silu * up[i]) < 1e-6 * (1 + std::fabs(silu * up[i])), "silu(%g)", gates[i]);
  }
  EXPECT(expected[0] == 200.0f * up[0] && std::fabs(expected[1]) < 1e-30f && expected[2] == 0.0f * up[2], "ends");
  EXPECT(std::isnan(expected[3]), "NaN became %g", expected[3]);
  for (const KernelTable* kernels : other_sets()) {
    std::vector<float> y = up;
    kernels->gate(gates.data(), y.data(), 128);
    EXPECT(memcmp(y.data() + 4, expected.data() + 4, 124 * sizeof(float)) == 0, "%s", kernels->name);
    EXPECT(std::isnan(y[3]), "%s: NaN became %g", kernels->name, y[3]);
  }
}

void test_dispatch() {
  EXPECT(choose_kernels("plain").kernels == &plain_kernels && choose_kernels("plain").problem.empty(), "plain");
  EXPECT(choose_kernels(nullptr).problem.empty() && choose_kernels("").problem.empty(), "the processor's own");
  EXPECT(choose_kernels("sse9").problem.find("'sse9' is none of") == 0, "%s", choose_kernels("sse9").problem.c_str());
  for (const KernelTable* kernels : built_kernels()) {
    const Dispatch chosen = choose_kernels(kernels->name);
    EXPECT(kernels->is_supported() ? chosen.kernels == kernels : !chosen.problem.empty(), "%s", kernels->name);
  }
}

}  // namespace

int main() {
  test_rounding();
  test_wrong_inputs();
  test_products();
  test_extremes();
  test_gate();
  test_dispatch();
  std::printf("sets:");
  for (const KernelTable* kernels : built_kernels()) {
    std::printf(" %s%s", kernels->name, kernels->is_supported() ? "" : " (not on this processor)");
  }
  std::printf("\n");
  return failures == 0 ? 0 : 1;
}
