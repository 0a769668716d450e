#include "product.h"

#include <algorithm>
#include <cstring>

#include "half.h"
#include "scratch.h"

namespace rubricrm {
namespace {

// Enough tasks for processors of today; a task more costs less than 0.02 microseconds.
constexpr int64_t kTasks = 64;
// So few rows are rounded faster by one thread than threads meet.
constexpr int64_t kFewRows = 4;
constexpr int kMostRows = 64;  // of any instruction set

RoundedRows round_rows(const KernelTable& kernels, ThreadPool& pool, const PackedMatrix& matrix, const float* x,
                       int64_t rows, int terms) {
  thread_local Scratch code_memory;
  thread_local Scratch scale_memory;
  thread_local Scratch sum_memory;
  RoundedRows all;
  all.terms = terms;
  all.blocks = matrix.blocks();
  all.padded_inputs = matrix.padded_inputs();
  all.codes = code_memory.get<int8_t>(rows * terms * all.padded_inputs);
  all.scales = scale_memory.get<float>(rows * terms * all.blocks);
  all.sums = sum_memory.get<int32_t>(rows * terms * all.blocks);
  const int64_t tasks = rows <= kFewRows ? 1 : std::min(rows, kTasks);
  pool.each(tasks, [&](size_t task) {
    const int64_t end = rows * (static_cast<int64_t>(task) + 1) / tasks;
    for (int64_t row = rows * static_cast<int64_t>(task) / tasks; row < end; ++row) {
      kernels.round_row(x + row * matrix.inputs, matrix, all.from(row * terms));
    }
  });
  return all;
}

// Calls compute(tile, first row, rows, is_stream) for all tiles and groups of rows. The first group of rows brings a tile's
// weights from memory; further ones find them in the cache.
template <class Compute>
void each_tile(const KernelTable& kernels, ThreadPool& pool, int64_t tiles, int64_t rows, Compute compute) {
  const int64_t groups = rows <= kernels.most_rows ? 1 : (rows + kernels.many_rows - 1) / kernels.many_rows;
  const int64_t tasks = std::min(tiles, kTasks);
  pool.each(tasks, [&](size_t task) {
    const int64_t end = tiles * (static_cast<int64_t>(task) + 1) / tasks;
    for (int64_t tile = tiles * static_cast<int64_t>(task) / tasks; tile < end; ++tile) {
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t first = rows * group / groups;
        compute(tile, first, static_cast<int>(rows * (group + 1) / groups - first), group == 0);
      }
    }
  });
}

// Adds the terms of each row: products [3 * rows][64] become [rows][64].
void join_terms(int rows, float* products) {
  for (int row = 0; row < rows; ++row) {
    const float* first = products + kExactTerms * row * kTile;
    for (int i = 0; i < kTile; ++i) {
      products[row * kTile + i] = first[i] + (first[kTile + i] + first[2 * kTile + i]);
    }
  }
}

// The products of some rows with a tile, terms joined: [rows][64].
void multiply_tile(const KernelTable& kernels, const PackedMatrix& matrix, int64_t tile, const RoundedRows& all,
                   int64_t first, int rows, bool is_stream, float* products) {
  const RoundedRows part = all.from(first * all.terms);
  const int limit = is_stream ? kernels.most_rows : kernels.many_rows;
  for (int done = 0; done < rows * all.terms; done += limit) {
    const int count = std::min(limit, rows * all.terms - done);
    kernels.multiply(matrix, tile, part.from(done), count, is_stream, products + done * kTile);
  }
  if (all.terms == kExactTerms) join_terms(rows, products);
}

void store_tile(const PackedMatrix& matrix, int64_t tile, int64_t first, int rows, const float* products, float* y) {
  const int64_t width = std::min<int64_t>(kTile, matrix.outputs - tile * kTile);
  for (int row = 0; row < rows; ++row) {
    memcpy(y + (first + row) * matrix.outputs + tile * kTile, products + row * kTile, width * sizeof(float));
  }
}

}  // namespace

void multiply(const KernelTable& kernels, ThreadPool& pool, const PackedMatrix& matrix, const float* x, int64_t rows,
              int terms, float* y) {
  if (rows == 0) return;
  const RoundedRows all = round_rows(kernels, pool, matrix, x, rows, terms);
  each_tile(kernels, pool, matrix.tiles(), rows, [&](int64_t tile, int64_t first, int count, bool is_stream) {
    alignas(64) float products[kExactTerms * kMostRows * kTile];
    multiply_tile(kernels, matrix, tile, all, first, count, is_stream, products);
    store_tile(matrix, tile, first, count, products, y);
  });
}

void multiply_gated(const KernelTable& kernels, ThreadPool& pool, const PackedMatrix& gate, const PackedMatrix& up,
                    const float* x, int64_t rows, int terms, float* y) {
  if (rows == 0) return;
  const RoundedRows all = round_rows(kernels, pool, gate, x, rows, terms);
  each_tile(kernels, pool, gate.tiles(), rows, [&](int64_t tile, int64_t first, int count, bool is_stream) {
    alignas(64) float gates[kExactTerms * kMostRows * kTile];
    alignas(64) float products[kExactTerms * kMostRows * kTile];
    multiply_tile(kernels, gate, tile, all, first, count, is_stream, gates);
    multiply_tile(kernels, up, tile, all, first, count, is_stream, products);
    kernels.gate(gates, products, count * kTile);
    store_tile(gate, tile, first, count, products, y);
  });
}

void gather(const PackedMatrix& matrix, const int64_t* ids, int64_t count, float* y) {
  const int64_t blocks = matrix.blocks();
  const int per_group = 32 / matrix.bits;
  for (int64_t i = 0; i < count; ++i, y += matrix.inputs) {
    const int64_t tile = ids[i] / kTile;
    const int64_t lane = ids[i] % kTile;
    for (int64_t k = 0; k < matrix.inputs; ++k) {
      const int64_t block = k / matrix.block;
      const int64_t parameter = (tile * blocks + block) * kTile + lane;
      const int64_t place = k % per_group;
      const uint8_t* four = matrix.codes + tile * matrix.tile_bytes() + k / per_group * 4 * kTile + lane * 4;
      // Of 8 inputs in 4 bits the even ones lie in the low halves, the odd ones in the high halves.
      const int code = matrix.bits == 8 ? four[place] : (four[place / 2] >> (place % 2 * 4)) & 15;
      const int zero = matrix.zero_points == nullptr ? 1 << (matrix.bits - 1) : matrix.zero_points[parameter];
      y[k] = static_cast<float>(code - zero) * half_to_float(matrix.scales[parameter]);
    }
  }
}

}  // namespace rubricrm
