// Products of rows of floats with packed matrices.
#pragma once

#include <cstdint>

#include "kernel_table.h"
#include "thread_pool.h"

namespace rubricrm {

constexpr int kExactTerms = 3;

// y [rows][outputs] = x [rows][inputs] * matrix, transposed. `terms` is 1, or kExactTerms: inputs keep 24 bits instead
// of 8.
void multiply(const KernelTable& kernels, ThreadPool& pool, const PackedMatrix& matrix, const float* x, int64_t rows,
              int terms, float* y);

// y [rows][outputs] = silu(x * gate) * (x * up), for two matrices of one shape.
void multiply_gated(const KernelTable& kernels, ThreadPool& pool, const PackedMatrix& gate, const PackedMatrix& up,
                    const float* x, int64_t rows, int terms, float* y);

// y [count][inputs] = rows of a matrix of `outputs` rows, as floats. Every id is in range: the caller has checked.
void gather(const PackedMatrix& matrix, const int64_t* ids, int64_t count, float* y);

}  // namespace rubricrm
