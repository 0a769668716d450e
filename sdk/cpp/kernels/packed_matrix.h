// Matrices as the packed layout holds them (docs/BUNDLE.md, Layouts), and rows of inputs rounded for them.
#pragma once

#include <cstdint>

// Files of different instruction sets include this: a function that the linker could share between them would bring one
// set's instructions to another's processor.
#define RUBRICRM_INLINE inline __attribute__((always_inline))

namespace rubricrm {

constexpr int kTile = 64;  // outputs of a tile
constexpr int kLanes = 16;  // outputs of a vector: a tile has four
constexpr int kMostBlock = 128;

// A view of a matrix of `outputs` x `inputs` codes. It owns nothing: the memory is the runtime's, often a mapped file.
struct PackedMatrix {
  int64_t outputs = 0;
  int64_t inputs = 0;
  int bits = 4;    // 4 or 8
  int block = 32;  // inputs that share a scale: 32, 64 or 128
  const uint8_t* codes = nullptr;        // [tiles][blocks][block * bits / 32][64][4]
  const uint16_t* scales = nullptr;      // [tiles][blocks][64], float16
  const uint8_t* zero_points = nullptr;  // [tiles][blocks][64]; null: 2^(bits - 1) everywhere

  RUBRICRM_INLINE int64_t tiles() const { return (outputs + kTile - 1) / kTile; }
  RUBRICRM_INLINE int64_t blocks() const { return (inputs + block - 1) / block; }
  RUBRICRM_INLINE int64_t padded_inputs() const { return blocks() * block; }
  // Runs of 256 bytes in a block: 4 bytes of each output, which hold 8 inputs in 4 bits or 4 in 8 bits.
  RUBRICRM_INLINE int groups() const { return block * bits / 32; }
  RUBRICRM_INLINE int64_t block_bytes() const { return int64_t{256} * groups(); }
  RUBRICRM_INLINE int64_t tile_bytes() const { return blocks() * block_bytes(); }
};

// Inputs in 8 bits. With more than one term each row of floats is several rows here: what it was rounded to, what that
// left over, and so on.
// Within 8 inputs of a row for 4-bit weights the order is k0 k2 k4 k6 k1 k3 k5 k7, as in the codes.
struct RoundedRows {
  int8_t* codes = nullptr;   // [rows][padded_inputs]
  float* scales = nullptr;   // [rows][blocks]
  int32_t* sums = nullptr;   // [rows][blocks]: of a block's codes
  int64_t padded_inputs = 0;
  int64_t blocks = 0;
  int terms = 1;

  RUBRICRM_INLINE RoundedRows from(int64_t row) const {
    RoundedRows rest = *this;
    rest.codes += row * padded_inputs;
    rest.scales += row * blocks;
    rest.sums += row * blocks;
    return rest;
  }
};

}  // namespace rubricrm
