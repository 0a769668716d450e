// The kernels, written once over a set of vector instructions. Each instruction set's file defines its `Set` and includes
// this file; everything here is local to that file.
//
// `Set` has a vector V of 16 floats and a vector I of 16 int32:
//   load(const float*), load(const uint16_t* float16), load(const int8_t*), store(float*, V), store_half(uint16_t*, V)
//   splat(float), add, sub, mul, div, fma(a, b, c) = a * b + c, max(a, b) (b where either is NaN), absolute
//   round (to nearest, ties to even), power_of_two(V of whole numbers from -126 to 127)
//   sum(V): ((lanes 0..7 + lanes 8..15), then by 4, 2, 1), largest(V)
//   to_int (to nearest, ties to even), to_float, sum(I), zero_int(), add(I, I), store(int32_t*, I)
//   store_codes<bits>(int8_t*, I): 16 codes in the order of RoundedRows
//   offset(const uint8_t* zero_points or null, middle, sum): minus zero points times a sum of codes
//   dot<bits, rows, vectors, is_stream>(sums, codes, x, stride, groups, prefetch): adds the products of a block
//   kMostRows, kManyRows: most rows of a product whose weights come from memory, and from the cache
//   vectors(rows): how many vectors of outputs `dot` takes at once
//   sums4(a, b, c, d, out): the sums of four vectors, each as by `sum`
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "kernel_table.h"
#include "prefetch.h"

// Accumulators stay in registers only where every loop over them is unrolled. A file without registers to keep defines
// this as nothing.
#ifndef RUBRICRM_UNROLL
#define RUBRICRM_PRAGMA(text) _Pragma(#text)
#define RUBRICRM_UNROLL(times) RUBRICRM_PRAGMA(GCC unroll times)
#endif

namespace rubricrm {
namespace {

constexpr int kChunk = 64;  // positions that one step of the softmax takes in
// Inputs below it count as zeros: 127 divided by them would be infinite.
constexpr float kTiny = 1e-30f;

// e^x for -87 <= x <= 88 and, since smaller results do not count, e^-87 below; a polynomial after Cody and Waite's reduction.
template <class Set>
RUBRICRM_INLINE typename Set::V exponential(typename Set::V x) {
  using V = typename Set::V;
  const V bounded = Set::max(Set::splat(-87.0f), x);  // in this order NaN stays
  const V whole = Set::round(Set::mul(bounded, Set::splat(1.44269504f)));
  V rest = Set::fma(whole, Set::splat(-0.693359375f), bounded);
  rest = Set::fma(whole, Set::splat(2.12194440e-4f), rest);
  V result = Set::splat(1.9875691500e-4f);
  constexpr float kCoefficients[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                                     5.0000001201e-1f};
  for (const float c : kCoefficients) {
    result = Set::fma(result, rest, Set::splat(c));
  }
  result = Set::fma(Set::mul(rest, rest), result, Set::add(rest, Set::splat(1.0f)));
  return Set::mul(result, Set::power_of_two(whole));
}

// Four codes of inputs as one number, which meet four codes of each output.
RUBRICRM_INLINE int32_t four_codes(const int8_t* x) {
  int32_t four;
  memcpy(&four, x, sizeof(four));
  return four;
}

// ---- products

template <class Set, int Bits>
RUBRICRM_INLINE int32_t store_rounded(const float* x, int block, float inverse, float scale, int8_t* codes,
                                      float* rest) {
  using V = typename Set::V;
  auto sum = Set::zero_int();
  for (int i = 0; i < block; i += kLanes) {
    const V values = Set::load(x + i);
    const auto rounded = Set::to_int(Set::mul(values, Set::splat(inverse)));
    sum = Set::add(sum, rounded);
    Set::template store_codes<Bits>(codes + i, rounded);
    if (rest != nullptr) {
      Set::store(rest + i, Set::fma(Set::to_float(rounded), Set::splat(-scale), values));
    }
  }
  return Set::sum(sum);
}

// Rounds one block, and for each further term what the one before left over.
template <class Set, int Bits>
RUBRICRM_INLINE void round_block(const float* x, int block, int64_t index, const RoundedRows& out) {
  using V = typename Set::V;
  V largest = Set::splat(0.0f);
  V wrong = Set::splat(0.0f);
  for (int i = 0; i < block; i += kLanes) {
    const V values = Set::load(x + i);
    largest = Set::max(Set::absolute(values), largest);
    wrong = Set::fma(values, Set::splat(0.0f), wrong);  // NaN where a value is NaN or infinite
  }
  const float most = Set::largest(largest);
  const bool are_numbers = Set::sum(wrong) == 0.0f;
  const bool has_codes = are_numbers && most > kTiny;
  float scale = has_codes ? most / 127.0f : are_numbers ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  float inverse = has_codes ? 127.0f / most : 0.0f;
  float rest[kMostBlock];
  for (int term = 0; term < out.terms; ++term) {
    const RoundedRows row = out.from(term);
    int8_t* codes = row.codes + index * block;
    row.scales[index] = scale;
    if (has_codes) {
      row.sums[index] = store_rounded<Set, Bits>(x, block, inverse, scale, codes, rest);
    } else {
      row.sums[index] = 0;
      memset(codes, 0, block);
    }
    x = rest;
    inverse = has_codes ? 254.0f / scale : 0.0f;
    scale /= 254.0f;
  }
}

template <class Set, int Bits>
void round_row_of(const float* x, const PackedMatrix& matrix, const RoundedRows& out) {
  const int64_t whole = matrix.inputs / matrix.block;
  for (int64_t index = 0; index < whole; ++index) {
    round_block<Set, Bits>(x + index * matrix.block, matrix.block, index, out);
  }
  if (whole < matrix.blocks()) {
    float last[kMostBlock] = {};
    memcpy(last, x + whole * matrix.block, (matrix.inputs - whole * matrix.block) * sizeof(float));
    round_block<Set, Bits>(last, matrix.block, whole, out);
  }
}

template <class Set>
void round_row(const float* x, const PackedMatrix& matrix, const RoundedRows& out) {
  return matrix.bits == 4 ? round_row_of<Set, 4>(x, matrix, out) : round_row_of<Set, 8>(x, matrix, out);
}

// A tile of 64 outputs, with all blocks in order. Weights are one stream: each block's are read once for all rows.
template <class Set, int Bits, int Rows, bool IsStream>
void multiply_rows(const PackedMatrix& matrix, int64_t tile, const RoundedRows& x, float* y) {
  using V = typename Set::V;
  constexpr int kVectors = Set::vectors(Rows);
  constexpr int kAll = kTile / kLanes;
  const int64_t blocks = matrix.blocks();
  const uint8_t* codes = matrix.codes + tile * matrix.tile_bytes();
  const uint16_t* scales = matrix.scales + tile * blocks * kTile;
  const uint8_t* zero_points = matrix.zero_points == nullptr ? nullptr : matrix.zero_points + tile * blocks * kTile;
  V total[Rows][kAll];
  for (int row = 0; row < Rows; ++row) {
    for (int v = 0; v < kAll; ++v) total[row][v] = Set::splat(0.0f);
  }
  for (int64_t index = 0; index < blocks; ++index) {
    for (int first = 0; first < kAll; first += kVectors) {
      typename Set::I sums[Rows][kVectors];
      RUBRICRM_UNROLL(12)
      for (int row = 0; row < Rows; ++row) {
        const int32_t sum = x.sums[row * blocks + index];
        RUBRICRM_UNROLL(4)
        for (int v = 0; v < kVectors; ++v) {
          const uint8_t* zeros = zero_points == nullptr ? nullptr : zero_points + kLanes * (first + v);
          sums[row][v] = Set::offset(zeros, 1 << (Bits - 1), sum);
        }
      }
      Set::template dot<Bits, Rows, kVectors, IsStream>(sums, codes + 4 * kLanes * first, x.codes + index * matrix.block,
                                                        x.padded_inputs, matrix.groups(),
                                                        Prefetch(matrix.codes, codes, first));
      RUBRICRM_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        const V scale = Set::load(scales + kLanes * (first + v));
        RUBRICRM_UNROLL(12)
        for (int row = 0; row < Rows; ++row) {
          const V both = Set::mul(scale, Set::splat(x.scales[row * blocks + index]));
          total[row][first + v] = Set::fma(Set::to_float(sums[row][v]), both, total[row][first + v]);
        }
      }
    }
    codes += matrix.block_bytes();
    scales += kTile;
    if (zero_points != nullptr) zero_points += kTile;
  }
  for (int row = 0; row < Rows; ++row) {
    for (int v = 0; v < kAll; ++v) Set::store(y + kTile * row + kLanes * v, total[row][v]);
  }
}

template <class Set, int Bits, bool IsStream, int Rows>
void multiply_up_to(const PackedMatrix& matrix, int64_t tile, const RoundedRows& x, int rows, float* y) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return multiply_rows<Set, Bits, Rows, IsStream>(matrix, tile, x, y);
    multiply_up_to<Set, Bits, IsStream, Rows - 1>(matrix, tile, x, rows, y);
  }
}

template <class Set>
void multiply(const PackedMatrix& matrix, int64_t tile, const RoundedRows& x, int rows, bool is_stream, float* y) {
  if (matrix.bits == 4) {
    return is_stream ? multiply_up_to<Set, 4, true, Set::kMostRows>(matrix, tile, x, rows, y)
                     : multiply_up_to<Set, 4, false, Set::kManyRows>(matrix, tile, x, rows, y);
  }
  return is_stream ? multiply_up_to<Set, 8, true, Set::kMostRows>(matrix, tile, x, rows, y)
                   : multiply_up_to<Set, 8, false, Set::kManyRows>(matrix, tile, x, rows, y);
}

template <class Set>
void gate(const float* gate, float* up, int count) {
  for (int i = 0; i < count; i += kLanes) {
    const auto x = Set::load(gate + i);
    const auto bounded = Set::max(Set::splat(-87.0f), x);  // e^87 is a number of float32
    const auto denominator = Set::add(Set::splat(1.0f), exponential<Set>(Set::sub(Set::splat(0.0f), bounded)));
    Set::store(up + i, Set::mul(Set::div(x, denominator), Set::load(up + i)));
  }
}

// ---- attention

// Normalizes and rotates one head in place; x is padded with zeros to whole vectors.
template <class Set>
void normalize_and_rotate(const AttentionShape& shape, const float* norm, int64_t position, float* x) {
  if (norm != nullptr) {
    auto squares = Set::splat(0.0f);
    for (int i = 0; i < shape.head_dim; i += kLanes) {
      squares = Set::fma(Set::load(x + i), Set::load(x + i), squares);
    }
    const float mean = Set::sum(squares) / static_cast<float>(shape.head_dim);
    const float inverse = 1.0f / __builtin_sqrtf(mean + shape.epsilon);
    for (int i = 0; i < shape.head_dim; ++i) x[i] = x[i] * inverse * norm[i];
  }
  const int half = shape.head_dim / 2;
  const float* cos = shape.cos + position * half;
  const float* sin = shape.sin + position * half;
  for (int i = 0; i < half; ++i) {
    const float first = x[i];
    const float second = x[i + half];
    x[i] = first * cos[i] - second * sin[i];
    x[i + half] = second * cos[i] + first * sin[i];
  }
}

// Writes head_dim numbers, padded in `x`, as the cache holds them.
template <class Set>
void store_cached(const AttentionShape& shape, const float* x, const float* scales, char* out) {
  const int count = shape.head_dim;
  if (shape.type == CacheType::kFloat32) {
    memcpy(out, x, count * sizeof(float));
  } else if (shape.type == CacheType::kFloat16) {
    uint16_t halves[kMostHeadDim];
    for (int i = 0; i < count; i += kLanes) Set::store_half(halves + i, Set::load(x + i));
    memcpy(out, halves, count * sizeof(uint16_t));
  } else {
    for (int i = 0; i < count; ++i) {
      const float scaled = x[i] / scales[i];
      const float bounded = scaled < -128.0f ? -128.0f : scaled > 127.0f ? 127.0f : scaled;
      out[i] = static_cast<char>(static_cast<int8_t>(bounded == bounded ? __builtin_lrintf(bounded) : 0));
    }
  }
}

template <class Set>
void prepare_token(const AttentionShape& shape, const float* qkv, int64_t position, const TokenCache* own,
                   float* queries) {
  const int dim = shape.head_dim;
  const int padded = shape.padded_head_dim();
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(dim));
  for (int head = 0; head < shape.num_heads; ++head, qkv += dim, queries += padded) {
    memcpy(queries, qkv, dim * sizeof(float));
    for (int i = dim; i < padded; ++i) queries[i] = 0.0f;
    normalize_and_rotate<Set>(shape, shape.query_norm, position, queries);
    for (int i = 0; i < dim; ++i) queries[i] *= scale;
    if (shape.key_scales != nullptr) {
      const float* key_scales = shape.key_scales + static_cast<int64_t>(head / shape.queries_per_head()) * dim;
      for (int i = 0; i < dim; ++i) queries[i] *= key_scales[i];
    }
  }
  const float* value = qkv + static_cast<int64_t>(shape.num_kv_heads) * dim;
  for (int head = 0; head < shape.num_kv_heads; ++head, qkv += dim, value += dim) {
    float padded_head[kMostHeadDim] = {};
    memcpy(padded_head, qkv, dim * sizeof(float));
    normalize_and_rotate<Set>(shape, shape.key_norm, position, padded_head);
    const int64_t scales = static_cast<int64_t>(head) * dim;
    store_cached<Set>(shape, padded_head, shape.key_scales + scales, own[head].keys);
    memcpy(padded_head, value, dim * sizeof(float));
    store_cached<Set>(shape, padded_head, shape.value_scales + scales, own[head].values);
  }
}

// Reads 16 elements, of which the first `count` belong to the row: no byte behind the row is touched. Where head_dim is a
// multiple of 16 (`IsWhole`) all do.
template <class Set, class Stored, bool IsWhole>
RUBRICRM_INLINE typename Set::V load_part(const Stored* row, int count) {
  if (IsWhole || count >= kLanes) return Set::load(row);
  Stored part[kLanes] = {};
  memcpy(part, row, count * sizeof(Stored));
  return Set::load(part);
}

// Scores of `Heads` queries over positions [0, count): scores[head][position].
template <class Set, class Stored, int Heads, bool IsWhole>
void score(const float* queries, int padded, const Stored* keys, int dim, int count, float* scores) {
  using V = typename Set::V;
  constexpr int kPositions = 4;
  int position = 0;
  for (; position + kPositions <= count; position += kPositions, keys += kPositions * dim) {
    V sums[Heads][kPositions];
    RUBRICRM_UNROLL(4)
    for (int h = 0; h < Heads; ++h) {
      RUBRICRM_UNROLL(4)
      for (int p = 0; p < kPositions; ++p) sums[h][p] = Set::splat(0.0f);
    }
    for (int i = 0; i < padded; i += kLanes) {
      V key[kPositions];
      RUBRICRM_UNROLL(4)
      for (int p = 0; p < kPositions; ++p) key[p] = load_part<Set, Stored, IsWhole>(keys + p * dim + i, dim - i);
      RUBRICRM_UNROLL(4)
      for (int h = 0; h < Heads; ++h) {
        const V query = Set::load(queries + h * padded + i);
        RUBRICRM_UNROLL(4)
        for (int p = 0; p < kPositions; ++p) sums[h][p] = Set::fma(key[p], query, sums[h][p]);
      }
    }
    RUBRICRM_UNROLL(4)
    for (int h = 0; h < Heads; ++h) {
      Set::sums4(sums[h][0], sums[h][1], sums[h][2], sums[h][3], scores + h * kChunk + position);
    }
  }
  for (; position < count; ++position, keys += dim) {
    for (int h = 0; h < Heads; ++h) {
      V sum = Set::splat(0.0f);
      for (int i = 0; i < padded; i += kLanes) {
        sum = Set::fma(load_part<Set, Stored, IsWhole>(keys + i, dim - i), Set::load(queries + h * padded + i), sum);
      }
      scores[h * kChunk + position] = Set::sum(sum);
    }
  }
}

// total = total * factor + sum over positions of weight * value, for `Vectors` vectors of each head.
template <class Set, class Stored, int Heads, int Vectors, bool IsWhole>
RUBRICRM_INLINE void add_values(const float* weights, const float* factors, const Stored* values, int dim, int first,
                                int count, float* totals, int padded) {
  using V = typename Set::V;
  V sums[Heads][Vectors];
  RUBRICRM_UNROLL(4)
  for (int h = 0; h < Heads; ++h) {
    RUBRICRM_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) {
      sums[h][v] = Set::mul(Set::load(totals + h * padded + first + kLanes * v), Set::splat(factors[h]));
    }
  }
  for (int position = 0; position < count; ++position, values += dim) {
    V value[Vectors];
    RUBRICRM_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) value[v] = load_part<Set, Stored, IsWhole>(values + first + kLanes * v, dim - first - kLanes * v);
    RUBRICRM_UNROLL(4)
    for (int h = 0; h < Heads; ++h) {
      const V weight = Set::splat(weights[h * kChunk + position]);
      RUBRICRM_UNROLL(4)
      for (int v = 0; v < Vectors; ++v) sums[h][v] = Set::fma(value[v], weight, sums[h][v]);
    }
  }
  RUBRICRM_UNROLL(4)
  for (int h = 0; h < Heads; ++h) {
    RUBRICRM_UNROLL(4)
    for (int v = 0; v < Vectors; ++v) Set::store(totals + h * padded + first + kLanes * v, sums[h][v]);
  }
}

template <class Set, class Stored, int Heads, bool IsWhole>
void accumulate(const float* weights, const float* factors, const Stored* values, int dim, int count, float* totals,
                int padded) {
  int first = 0;
  for (; first + 4 * kLanes <= padded; first += 4 * kLanes) {
    add_values<Set, Stored, Heads, 4, IsWhole>(weights, factors, values, dim, first, count, totals, padded);
  }
  for (; first < padded; first += kLanes) {
    add_values<Set, Stored, Heads, 1, IsWhole>(weights, factors, values, dim, first, count, totals, padded);
  }
}

// Turns scores into weights relative to the largest score so far; returns what earlier weights are worth now.
template <class Set>
float weigh(float* scores, int count, float* largest, float* total) {
  using V = typename Set::V;
  const int whole = (count + kLanes - 1) / kLanes * kLanes;
  for (int i = count; i < whole; ++i) scores[i] = -std::numeric_limits<float>::infinity();
  V most = Set::splat(*largest);
  for (int i = 0; i < whole; i += kLanes) most = Set::max(Set::load(scores + i), most);
  const float before = *largest;
  *largest = Set::largest(most);
  for (int i = 0; i < whole; i += kLanes) {
    Set::store(scores + i, exponential<Set>(Set::sub(Set::load(scores + i), Set::splat(*largest))));
  }
  for (int i = count; i < whole; ++i) scores[i] = 0.0f;
  V sum = Set::splat(0.0f);
  for (int i = 0; i < whole; i += kLanes) sum = Set::add(sum, Set::load(scores + i));
  float factor[kLanes];
  Set::store(factor, exponential<Set>(Set::splat(before - *largest)));
  *total = __builtin_fmaf(*total, factor[0], Set::sum(sum));
  return factor[0];
}

// One chunk of positions for `Heads` queries of one token. state: largest score and total weight of each head, then sums.
template <class Set, class Stored, int Heads, bool IsWhole>
void attend_chunk(const AttentionShape& shape, const TokenSpan& span, int64_t chunk, const float* queries,
                  float* largest, float* totals, float* sums) {
  const int dim = shape.head_dim;
  const int padded = shape.padded_head_dim();
  const int count = static_cast<int>(span.length - chunk < kChunk ? span.length - chunk : kChunk);
  const int64_t in_base = span.base_length - chunk;
  const int split = static_cast<int>(in_base < 0 ? 0 : in_base < count ? in_base : count);
  const auto* base = reinterpret_cast<const Stored*>(span.base.keys) + chunk * dim;
  const auto* own = reinterpret_cast<const Stored*>(span.own.keys) + (chunk + split) * dim;
  alignas(64) float scores[Heads * kChunk];
  if (split > 0) score<Set, Stored, Heads, IsWhole>(queries, padded, base, dim, split, scores);
  score<Set, Stored, Heads, IsWhole>(queries, padded, own, dim, count - split, scores + split);
  float factors[Heads];
  for (int h = 0; h < Heads; ++h) factors[h] = weigh<Set>(scores + h * kChunk, count, largest + h, totals + h);
  if (split > 0) {
    base = reinterpret_cast<const Stored*>(span.base.values) + chunk * dim;
    accumulate<Set, Stored, Heads, IsWhole>(scores, factors, base, dim, split, sums, padded);
    for (int h = 0; h < Heads; ++h) factors[h] = 1.0f;
  }
  own = reinterpret_cast<const Stored*>(span.own.values) + (chunk + split) * dim;
  accumulate<Set, Stored, Heads, IsWhole>(scores + split, factors, own, dim, count - split, sums, padded);
}

template <class Set, class Stored, bool IsWhole>
void attend_heads(int heads, const AttentionShape& shape, const TokenSpan& span, int64_t chunk, const float* queries,
                  float* largest, float* totals, float* sums) {
  switch (heads) {
    case 1: return attend_chunk<Set, Stored, 1, IsWhole>(shape, span, chunk, queries, largest, totals, sums);
    case 2: return attend_chunk<Set, Stored, 2, IsWhole>(shape, span, chunk, queries, largest, totals, sums);
    case 3: return attend_chunk<Set, Stored, 3, IsWhole>(shape, span, chunk, queries, largest, totals, sums);
    default: return attend_chunk<Set, Stored, 4, IsWhole>(shape, span, chunk, queries, largest, totals, sums);
  }
}

template <class Set, class Stored, bool IsWhole>
void attend_chunks(const AttentionShape& shape, const TokenSpan* spans, const float* const* queries, int64_t tokens,
                   float* state) {
  constexpr int kHeads = 4;
  const int heads = shape.queries_per_head();
  const int padded = shape.padded_head_dim();
  int64_t longest = 0;
  for (int64_t token = 0; token < tokens; ++token) {
    if (spans[token].length > longest) longest = spans[token].length;
  }
  for (int64_t chunk = 0; chunk < longest; chunk += kChunk) {
    for (int64_t token = 0; token < tokens; ++token) {
      if (chunk >= spans[token].length) continue;
      float* largest = state + token * heads * (padded + 2);
      float* sums = largest + 2 * heads;
      for (int head = 0; head < heads; head += kHeads) {
        const int count = heads - head < kHeads ? heads - head : kHeads;
        attend_heads<Set, Stored, IsWhole>(count, shape, spans[token], chunk, queries[token] + head * padded, largest + head,
                                  largest + heads + head, sums + head * padded);
      }
    }
  }
}

template <class Set, class Stored>
void attend_stored(const AttentionShape& shape, const TokenSpan* spans, const float* const* queries, int64_t tokens,
                   float* state) {
  const bool is_whole = shape.head_dim % kLanes == 0;
  return is_whole ? attend_chunks<Set, Stored, true>(shape, spans, queries, tokens, state)
                  : attend_chunks<Set, Stored, false>(shape, spans, queries, tokens, state);
}

template <class Set>
void attend(const AttentionShape& shape, int kv_head, const TokenSpan* spans, const float* const* queries,
            float* const* out, int64_t tokens, float* state) {
  const int heads = shape.queries_per_head();
  const int padded = shape.padded_head_dim();
  const int64_t size = static_cast<int64_t>(heads) * (padded + 2);
  for (int64_t token = 0; token < tokens; ++token) {
    float* one = state + token * size;
    for (int head = 0; head < heads; ++head) one[head] = -std::numeric_limits<float>::infinity();
    for (int64_t i = heads; i < size; ++i) one[i] = 0.0f;
  }
  switch (shape.type) {
    case CacheType::kFloat32: attend_stored<Set, float>(shape, spans, queries, tokens, state); break;
    case CacheType::kFloat16: attend_stored<Set, uint16_t>(shape, spans, queries, tokens, state); break;
    case CacheType::kInt8: attend_stored<Set, int8_t>(shape, spans, queries, tokens, state); break;
  }
  for (int64_t token = 0; token < tokens; ++token) {
    const float* one = state + token * size;
    for (int head = 0; head < heads; ++head) {
      const float inverse = 1.0f / one[heads + head];
      const float* sums = one + 2 * heads + head * padded;
      float* to = out[token] + static_cast<int64_t>(head) * shape.head_dim;
      for (int i = 0; i < shape.head_dim; ++i) to[i] = sums[i] * inverse;
      if (shape.value_scales != nullptr) {
        const float* scales = shape.value_scales + static_cast<int64_t>(kv_head) * shape.head_dim;
        for (int i = 0; i < shape.head_dim; ++i) to[i] *= scales[i];
      }
    }
  }
}

template <class Set>
constexpr KernelTable make_table(const char* name, bool (*is_supported)()) {
  return {name,          is_supported, Set::kMostRows,     Set::kManyRows, round_row<Set>,
          multiply<Set>, gate<Set>,    prepare_token<Set>, attend<Set>};
}

}  // namespace
}  // namespace rubricrm
