#include "runtime/packed_layout.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "error.h"

namespace rubricrm {
namespace {

using Made = std::optional<std::string>;
using Shape = std::vector<int64_t>;

constexpr int64_t kTile = 64;  // outputs
constexpr int64_t kGroup = 4;  // bytes of an output that lie together

int64_t tiles_of(int64_t rows) { return (rows + kTile - 1) / kTile; }

// ---- Moves between rows [N, columns] and tiles [tiles, columns, 64], of elements of one type ----

template <typename Element>
Element element(std::string_view bytes, int64_t index) {
  Element value;
  std::memcpy(&value, bytes.data() + index * static_cast<int64_t>(sizeof(Element)), sizeof value);
  return value;
}

// Rows that fill up the last tile are zero.
template <typename Element>
std::string tiled(std::string_view rows, int64_t num_rows, int64_t columns) {
  std::string tiles(static_cast<size_t>(tiles_of(num_rows) * columns * kTile) * sizeof(Element), '\0');
  char* at = tiles.data();
  for (int64_t first = 0; first < num_rows; first += kTile) {
    for (int64_t column = 0; column < columns; ++column) {
      for (int64_t row = first; row < first + kTile; ++row, at += sizeof(Element)) {
        if (row >= num_rows) continue;
        std::memcpy(at, rows.data() + (row * columns + column) * static_cast<int64_t>(sizeof(Element)),
                    sizeof(Element));
      }
    }
  }
  return tiles;
}

template <typename Element>
std::string untiled(std::string_view tiles, int64_t num_rows, int64_t columns) {
  std::string rows(static_cast<size_t>(num_rows * columns) * sizeof(Element), '\0');
  char* at = rows.data();
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t first = row / kTile * columns * kTile + row % kTile;
    for (int64_t column = 0; column < columns; ++column, at += sizeof(Element)) {
      const auto value = element<Element>(tiles, first + column * kTile);
      std::memcpy(at, &value, sizeof value);
    }
  }
  return rows;
}

// ---- float16 ----

// A number as float16; none: it is no such number.
std::optional<uint16_t> exact_half(uint32_t single) {
  const auto sign = static_cast<uint16_t>(single >> 16 & 0x8000);
  const uint32_t magnitude = single & 0x7FFFFFFF, fraction = single & 0x7FFFFF;
  const auto exponent = static_cast<int>(magnitude >> 23);
  if (magnitude == 0 || magnitude == 0x7F800000) return static_cast<uint16_t>(sign | (magnitude ? 0x7C00 : 0));
  if (exponent > 142 || exponent < 103) return std::nullopt;
  // Below the smallest normal number (2 ** -14) the leading one is written, and moves right.
  const int shift = exponent >= 113 ? 13 : 126 - exponent;
  const uint32_t digits = exponent >= 113 ? fraction : fraction | 0x800000;
  if ((digits & ((uint32_t{1} << shift) - 1)) != 0) return std::nullopt;
  const uint32_t rest = exponent >= 113 ? static_cast<uint32_t>(exponent - 112) << 10 : 0;
  return static_cast<uint16_t>(sign | rest | digits >> shift);
}

uint32_t single_of(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3FF;
  if (exponent == 31) return sign | 0x7F800000 | fraction << 13;
  if (exponent != 0) return sign | (exponent + 112) << 23 | fraction << 13;
  const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2 ** -24, exact
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return sign | bits;
}

// ---- The six conversions ----

// codes [N, blocks, bytes] -> packed [tiles, groups, 64, 4]
Made pack_codes(const GraphTensor& source, std::string_view bytes, const GraphTensor& wanted) {
  const Shape& shape = source.shape;
  const int64_t columns = shape[1] * shape[2];
  if (columns % kGroup != 0 || wanted.shape != Shape{tiles_of(shape[0]), columns / kGroup, kTile, kGroup}) return {};
  return tiled<uint32_t>(bytes, shape[0], columns / kGroup);
}

// packed -> codes, or rows [N, bytes]
Made unpack_codes(const GraphTensor& source, std::string_view bytes, const GraphTensor& wanted) {
  const int64_t num_rows = wanted.shape[0], columns = num_rows == 0 ? 0 : wanted.num_bytes / num_rows;
  if (tiles_of(num_rows) != source.shape[0] || columns != source.shape[1] * kGroup) return {};
  if (source.shape[2] != kTile || source.shape[3] != kGroup) return {};
  return untiled<uint32_t>(bytes, num_rows, columns / kGroup);
}

// scales [N, blocks] of float32 -> [tiles, blocks, 64] of float16
Made pack_scales(const GraphTensor& source, std::string_view bytes, const GraphTensor& wanted) {
  const Shape& shape = source.shape;
  if (wanted.shape != Shape{tiles_of(shape[0]), shape[1], kTile}) return {};
  std::string halves(bytes.size() / 2, '\0');
  for (int64_t i = 0; i < shape[0] * shape[1]; ++i) {
    const std::optional<uint16_t> half = exact_half(element<uint32_t>(bytes, i));
    if (!half) {
      char number[40];
      std::snprintf(number, sizeof number, "%.9g", static_cast<double>(element<float>(bytes, i)));
      throw Error(Code::BUNDLE_INVALID, std::string("a scale of ") + number +
                                            " is no number of float16, which packed weights hold: it was exported by "
                                            "another version. Export the checkpoint again.");
    }
    std::memcpy(halves.data() + i * 2, &*half, 2);
  }
  return tiled<uint16_t>(halves, shape[0], shape[1]);
}

bool is_tiled(const GraphTensor& source, int64_t rows, int64_t columns) {
  return source.shape == Shape{tiles_of(rows), columns, kTile};
}

Made unpack_scales(const GraphTensor& source, std::string_view bytes, const GraphTensor& wanted) {
  const Shape& shape = wanted.shape;
  if (!is_tiled(source, shape[0], shape[1])) return {};
  const std::string halves = untiled<uint16_t>(bytes, shape[0], shape[1]);
  std::string singles(halves.size() * 2, '\0');
  for (int64_t i = 0; i < shape[0] * shape[1]; ++i) {
    const uint32_t single = single_of(element<uint16_t>(halves, i));
    std::memcpy(singles.data() + i * 4, &single, 4);
  }
  return singles;
}

// zero points [N, bytes], one to a byte or two -> [tiles, blocks, 64], one to a byte
Made pack_zero_points(const GraphTensor& source, std::string_view bytes, const GraphTensor& wanted) {
  const int64_t rows = source.shape[0], num_bytes = source.shape[1], blocks = wanted.shape[1];
  if (wanted.shape != Shape{tiles_of(rows), blocks, kTile}) return {};
  if (num_bytes == blocks) return tiled<uint8_t>(bytes, rows, blocks);
  if (num_bytes != (blocks + 1) / 2) return {};
  std::string single(static_cast<size_t>(rows * blocks), '\0');
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const auto both = element<uint8_t>(bytes, row * num_bytes + block / 2);
      single[static_cast<size_t>(row * blocks + block)] = static_cast<char>(block % 2 == 0 ? both & 15 : both >> 4);
    }
  }
  return tiled<uint8_t>(single, rows, blocks);
}

Made unpack_zero_points(const GraphTensor& source, std::string_view bytes, const GraphTensor& wanted) {
  const int64_t rows = wanted.shape[0], num_bytes = wanted.shape[1], blocks = source.shape[1];
  if (!is_tiled(source, rows, blocks)) return {};
  const std::string single = untiled<uint8_t>(bytes, rows, blocks);
  if (num_bytes == blocks) return single;
  if (num_bytes != (blocks + 1) / 2) return {};
  std::string pairs(static_cast<size_t>(rows * num_bytes), '\0');
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t block = 0; block < blocks; ++block) {
      const auto point = element<uint8_t>(single, row * blocks + block);
      char& pair = pairs[static_cast<size_t>(row * num_bytes + block / 2)];
      pair = static_cast<char>(pair | (block % 2 == 0 ? point : point << 4));
    }
  }
  return pairs;
}

// ---- Which is for which ----

// What the ending of a name says of a tensor.
struct Ending {
  const char* text;
  int64_t element_type;
  size_t rank;
  bool fits(const GraphTensor& tensor) const {
    return tensor.element_type == element_type && tensor.shape.size() == rank;
  }
};

constexpr Ending kCodes{".codes", kUint8Type, 3}, kRows{".rows", kUint8Type, 2}, kScales{".scales", kFloat32Type, 2},
    kZeroPoints{".zero_points", kUint8Type, 2}, kPacked{".packed", kUint8Type, 4},
    kPackedScales{".packed_scales", kFloat16Type, 3}, kPackedZeroPoints{".packed_zero_points", kUint8Type, 3};

constexpr struct {
  Ending wanted, source;
  Convert convert;
} kConversions[] = {
    {kPacked, kCodes, pack_codes},
    {kPackedScales, kScales, pack_scales},
    {kPackedZeroPoints, kZeroPoints, pack_zero_points},
    {kCodes, kPacked, unpack_codes},
    {kRows, kPacked, unpack_codes},
    {kScales, kPackedScales, unpack_scales},
    {kZeroPoints, kPackedZeroPoints, unpack_zero_points},
};

}  // namespace

std::vector<Conversion> conversions_to(const GraphTensor& wanted) {
  std::vector<Conversion> found;
  for (const auto& [target, source, convert] : kConversions) {
    const std::string_view ending = target.text, name = wanted.name;
    if (name.size() < ending.size() || name.substr(name.size() - ending.size()) != ending) continue;
    if (!target.fits(wanted)) continue;
    const Ending other = source;
    found.push_back({std::string(name.substr(0, name.size() - ending.size())) + other.text,
                     [other](const GraphTensor& tensor) { return other.fits(tensor); }, convert});
  }
  return found;
}

}  // namespace rubricrm
