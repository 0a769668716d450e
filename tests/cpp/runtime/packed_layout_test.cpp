// Tensors in their other layout: where each byte goes, what does not fit, and which numbers float16 holds.
#include "runtime/packed_layout.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "expect_error.h"

using namespace rubricrm;

namespace {

std::string bytes_up_to(size_t count) {
  std::string bytes(count, '\0');
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i * 7 % 251);
  return bytes;
}

GraphTensor tensor(const std::string& name, int64_t type, std::vector<int64_t> shape) {
  GraphTensor made{name, type, std::move(shape), "data", 0, type == kFloat32Type ? 4 : type == kFloat16Type ? 2 : 1};
  for (const int64_t size : made.shape) made.num_bytes *= size;
  return made;
}

std::optional<std::string> converted(const GraphTensor& source, const std::string& bytes, const GraphTensor& wanted) {
  for (const Conversion& way : conversions_to(wanted)) {
    if (way.source == source.name && way.fits(source)) return way.convert(source, bytes, wanted);
  }
  return std::nullopt;
}

std::string bytes_of(const std::vector<float>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float)};
}

void test_codes() {
  const GraphTensor codes = tensor("w.codes", kUint8Type, {70, 2, 8}), rows = tensor("w.rows", kUint8Type, {70, 16});
  const GraphTensor packed = tensor("w.packed", kUint8Type, {2, 4, 64, 4});
  const std::string given = bytes_up_to(70 * 16);
  const std::string tiles = converted(codes, given, packed).value_or("");
  EXPECT(tiles.size() == 2 * 4 * 64 * 4, "%zu bytes", tiles.size());
  // Byte 2 of group 3 of output 69 lies in tile 1, at its output 5; output 6 there fills up the tile.
  EXPECT(tiles[((1 * 4 + 3) * 64 + 5) * 4 + 2] == given[69 * 16 + 3 * 4 + 2], "an output");
  EXPECT(tiles[((1 * 4 + 3) * 64 + 6) * 4 + 2] == 0, "no output");
  EXPECT(converted(packed, tiles, codes) == given && converted(packed, tiles, rows) == given, "and back");
  EXPECT(!converted(codes, given, tensor("w.packed", kUint8Type, {2, 3, 64, 4})), "another number of groups");
  EXPECT(!converted(tensor("w.codes", kUint8Type, {70, 1, 6}), bytes_up_to(420), packed), "no whole group");
  EXPECT(!converted(packed, tiles, tensor("w.codes", kUint8Type, {130, 2, 8})), "too few tiles");
  EXPECT(!converted(codes, given, tensor("v.packed", kUint8Type, {2, 4, 64, 4})), "another name");
  EXPECT(conversions_to(tensor("w.packed", kFloat32Type, {2, 4, 64, 4})).empty(), "another type");
  EXPECT(conversions_to(tensor("w.packed", kUint8Type, {2, 4, 64})).empty(), "another rank");
}

void test_scales() {
  const GraphTensor scales = tensor("w.scales", kFloat32Type, {65, 1});
  const GraphTensor packed = tensor("w.packed_scales", kFloat16Type, {2, 1, 64});
  std::vector<float> numbers(65, 1.0f);
  const float exact[] = {0.0f, -0.0f, 1.5f, -65504.0f, std::ldexp(1.0f, -14), std::ldexp(1.0f, -24),
                         std::ldexp(-1023.0f, -24), std::ldexp(3.0f, -20), std::numeric_limits<float>::infinity()};
  std::copy(std::begin(exact), std::end(exact), numbers.begin());
  const std::string tiles = converted(scales, bytes_of(numbers), packed).value_or("");
  EXPECT(converted(packed, tiles, scales) == bytes_of(numbers), "there and back, to the sign of a zero");
  uint16_t half = 0;
  std::memcpy(&half, tiles.data() + 2 * 2, 2);
  EXPECT(half == 0x3E00, "1.5 is %x", half);
  for (const float bad : {65520.0f, 1.0f + std::ldexp(1.0f, -11), std::ldexp(1.0f, -25), std::ldexp(3.0f, -25), 1e30f,
                          std::numeric_limits<float>::denorm_min(), std::nanf("")}) {
    numbers[64] = bad;
    expect_error(Code::BUNDLE_INVALID, "is no number of float16", [&] { converted(scales, bytes_of(numbers), packed); });
  }
}

void test_zero_points() {
  for (const int64_t blocks : {1, 4, 5}) {
    const GraphTensor packed = tensor("w.packed_zero_points", kUint8Type, {2, blocks, 64});
    const GraphTensor pairs = tensor("w.zero_points", kUint8Type, {70, (blocks + 1) / 2});
    const GraphTensor whole = tensor("w.zero_points", kUint8Type, {70, blocks});
    std::string given = bytes_up_to(static_cast<size_t>(pairs.num_bytes));
    for (size_t i = 0; i < given.size(); ++i) {
      const bool is_last = (i + 1) % static_cast<size_t>(pairs.shape[1]) == 0;
      if (is_last && blocks % 2 == 1) given[i] = static_cast<char>(given[i] & 15);  // its other half belongs to nobody
    }
    const std::string tiles = converted(pairs, given, packed).value_or("");
    EXPECT(converted(packed, tiles, pairs) == given, "%d blocks, two to a byte", static_cast<int>(blocks));
    const std::string bytes = bytes_up_to(static_cast<size_t>(whole.num_bytes));
    EXPECT(converted(packed, converted(whole, bytes, packed).value_or(""), whole) == bytes, "one to a byte");
  }
  EXPECT(!converted(tensor("w.zero_points", kUint8Type, {70, 9}), bytes_up_to(630),
                    tensor("w.packed_zero_points", kUint8Type, {2, 4, 64})), "neither");
}

}  // namespace

int main() {
  test_codes();
  test_scales();
  test_zero_points();
  return failures != 0;
}
