// Products of any number of rows, on several threads, from several threads at once.
#include <cmath>
#include <cstring>
#include <thread>

#include "dispatch.h"
#include "expect.h"
#include "packed_case.h"
#include "product.h"
#include "test_pool.h"

namespace {

using namespace rubricrm;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

std::vector<float> product(const KernelTable& kernels, const PackedMatrix& matrix, const std::vector<float>& x, int terms,
                           int threads = 2) {
  TestPool pool(threads);
  const int64_t rows = static_cast<int64_t>(x.size()) / matrix.inputs;
  std::vector<float> y(rows * matrix.outputs, NAN);
  multiply(kernels, pool, matrix, x.data(), rows, terms, y.data());
  return y;
}

void test_rows() {
  Numbers numbers(1);
  for (const int bits : {4, 8}) {
    const PackedCase made(numbers, 200, 96, bits, 32, true);
    for (const int terms : {1, kExactTerms}) {
      for (const int rows : {0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 24, 25, 37}) {
        const std::vector<float> x = numbers.floats(rows * 96);
        const std::vector<float> expected = product(plain_kernels, made.matrix, x, terms, 1);
        for (const float y : expected) EXPECT(!std::isnan(y), "an output of %d rows was not written", rows);
        for (const KernelTable* kernels : built_kernels()) {
          if (!kernels->is_supported()) continue;
          const auto y = product(*kernels, made.matrix, x, terms);
          EXPECT(same_bits(y, expected), "%s: %d rows, %d bits, %d terms", kernels->name, rows, bits, terms);
          if (rows > 2) {  // a row alone
            const std::vector<float> one(x.begin() + 96, x.begin() + 192);
            const std::vector<float> part(expected.begin() + 200, expected.begin() + 400);
            EXPECT(same_bits(product(*kernels, made.matrix, one, terms), part), "%s: a row alone", kernels->name);
          }
        }
      }
    }
  }
}

void test_exact_inputs() {
  Numbers numbers(2);
  const PackedCase made(numbers, 64, 256, 4, 128, true);
  const std::vector<float> x = numbers.floats(3 * 256);
  const std::vector<float> y = product(plain_kernels, made.matrix, x, kExactTerms);
  for (int row = 0; row < 3; ++row) {
    for (int n = 0; n < 64; ++n) {
      double sum = 0;
      double size = 0;
      for (int k = 0; k < 256; ++k) {
        sum += made.weight(n, k) * x[row * 256 + k];
        size += std::fabs(made.weight(n, k) * x[row * 256 + k]);
      }
      EXPECT(std::fabs(y[row * 64 + n] - sum) < 1e-6 * size, "%g, expected %g", y[row * 64 + n], sum);
    }
  }
}

void test_gated() {
  Numbers numbers(3);
  const PackedCase gate(numbers, 130, 64, 4, 64, true);
  const PackedCase up(numbers, 130, 64, 4, 64, false);
  for (const int rows : {1, 5, 20}) {
    const std::vector<float> x = numbers.floats(rows * 64);
    const auto gates = product(plain_kernels, gate.matrix, x, 1);
    auto expected = product(plain_kernels, up.matrix, x, 1);
    for (size_t i = 0; i < gates.size(); ++i) {
      const double silu = gates[i] / (1.0 + std::exp(-static_cast<double>(gates[i])));
      expected[i] = static_cast<float>(silu * expected[i]);
    }
    std::vector<float> first;
    for (const KernelTable* kernels : built_kernels()) {
      if (!kernels->is_supported()) continue;
      TestPool pool(2);
      std::vector<float> y(rows * 130, NAN);
      multiply_gated(*kernels, pool, gate.matrix, up.matrix, x.data(), rows, 1, y.data());
      for (size_t i = 0; i < y.size(); ++i) {
        EXPECT(std::fabs(y[i] - expected[i]) < 1e-5 * (1e-3 + std::fabs(expected[i])), "%g, expected %g", y[i], expected[i]);
      }
      if (first.empty()) first = y;
      EXPECT(same_bits(y, first), "%s", kernels->name);
    }
  }
}

void test_gather() {
  Numbers numbers(4);
  for (const int bits : {4, 8}) {
    const PackedCase made(numbers, 100, 72, bits, 32, true);
    const int64_t ids[] = {99, 0, 64, 63};
    std::vector<float> y(4 * 72);
    gather(made.matrix, ids, 4, y.data());
    for (int i = 0; i < 4; ++i) {
      for (int k = 0; k < 72; ++k) {
        EXPECT(y[i * 72 + k] == static_cast<float>(made.weight(ids[i], k)), "row %d, column %d", i, k);
      }
    }
  }
}

void test_threads() {
  Numbers numbers(5);
  const PackedCase made(numbers, 640, 256, 4, 64, true);
  const std::vector<float> x = numbers.floats(9 * 256);
  const std::vector<float> expected = product(*dispatch().kernels, made.matrix, x, 1);
  std::vector<std::vector<float>> found(4);
  std::vector<std::thread> threads;
  for (auto& one : found) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) one = product(*dispatch().kernels, made.matrix, x, 1, 3);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& one : found) EXPECT(same_bits(one, expected), "threads disagree");
}

}  // namespace

int main() {
  test_rows();
  test_exact_inputs();
  test_gated();
  test_gather();
  test_threads();
  return failures == 0 ? 0 : 1;
}
