// A random packed matrix that owns its memory, and its numbers as floats.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "expect.h"
#include "half.h"
#include "packed_matrix.h"

struct PackedCase {
  rubricrm::PackedMatrix matrix;
  std::vector<uint8_t> codes;
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zero_points;

  PackedCase(Numbers& numbers, int64_t outputs, int64_t inputs, int bits, int block, bool has_zero_points) {
    matrix.outputs = outputs;
    matrix.inputs = inputs;
    matrix.bits = bits;
    matrix.block = block;
    codes = numbers.bytes(matrix.tiles() * matrix.tile_bytes());
    const int64_t parameters = matrix.tiles() * matrix.blocks() * rubricrm::kTile;
    for (const float x : numbers.floats(parameters, 0.01f)) scales.push_back(rubricrm::float_to_half(std::fabs(x)));
    if (has_zero_points) zero_points = numbers.bytes(parameters, 1 << bits);
    matrix.codes = codes.data();
    matrix.scales = scales.data();
    matrix.zero_points = has_zero_points ? zero_points.data() : nullptr;
  }

  // The weight of an output and an input, by the layout's definition alone.
  double weight(int64_t n, int64_t k) const {
    const int64_t blocks = matrix.blocks();
    const int64_t parameter = (n / 64 * blocks + k / matrix.block) * 64 + n % 64;
    const int per_group = 32 / matrix.bits;
    const int64_t groups = matrix.padded_inputs() / per_group;
    const uint8_t* four = &codes[((n / 64 * groups + k / per_group) * 64 + n % 64) * 4];
    static constexpr int kPlace[] = {0, 4, 1, 5, 2, 6, 3, 7};  // of k in a group of 8: low halves, then high ones
    const int place = matrix.bits == 8 ? static_cast<int>(k % 4) : kPlace[k % 8];
    const int code = matrix.bits == 8 ? four[place] : place < 4 ? four[place] & 15 : four[place - 4] >> 4;
    const int zero = zero_points.empty() ? 1 << (matrix.bits - 1) : zero_points[parameter];
    return (code - zero) * static_cast<double>(rubricrm::half_to_float(scales[parameter]));
  }
};
