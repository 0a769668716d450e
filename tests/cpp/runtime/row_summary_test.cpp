// The largest logit of a row, and whether the row is an answer.
#include "runtime/row_summary.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include "expect_error.h"

using namespace rubricrm;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void expect(const std::vector<float>& row, int64_t num_tokens, int32_t argmax, bool finite) {
  const RowSummary found = summarize_row(row.data(), static_cast<int64_t>(row.size()), num_tokens);
  EXPECT(found.finite == finite && (!finite || found.argmax == argmax), "%zu logits: got %d %d, expected %d %d",
         row.size(), found.argmax, found.finite, argmax, finite);
}

void test_random_rows() {
  Numbers numbers(17);
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<float> row = numbers.floats(static_cast<size_t>(numbers.integer(1, 5000)), 3.0f);
    if (trial % 2 == 0) {
      for (float& x : row) x = std::round(x);  // many equal ones
    }
    const int64_t num_tokens = numbers.integer(1, static_cast<int>(row.size()));
    const auto largest = std::max_element(row.begin(), row.begin() + num_tokens);
    expect(row, num_tokens, static_cast<int32_t>(largest - row.begin()), true);
    const size_t place = static_cast<size_t>(numbers.integer(0, static_cast<int>(row.size()) - 1));
    const bool is_padding = static_cast<int64_t>(place) >= num_tokens;
    for (const float odd : {kInfinity, -kInfinity, kNan}) {
      std::vector<float> changed = row;
      changed[place] = odd;
      expect(changed, num_tokens, static_cast<int32_t>(largest - row.begin()), is_padding && odd == -kInfinity);
    }
  }
}

void test_edges() {
  expect({-0.0f, 0.0f}, 2, 0, true);
  expect({0.0f, -0.0f}, 2, 0, true);
  expect({-3e38f, -3.4e38f}, 2, 0, true);
  expect({1.0f, 2.0f, 3.0f}, 2, 1, true);
  expect(std::vector<float>(3000, -std::numeric_limits<float>::max()), 3000, 0, true);
  const std::vector<float> rows{1, 2, 3, 4, 5, kInfinity};
  expect_error(Code::OUTPUT_INVALID, "1 of 3 logits are not finite (the first is inf) in row 2 of 2",
               [&] { check_finite({rows.data(), 2, 3}, 3); });
  check_finite({rows.data(), 1, 3}, 3);
  check_finite({nullptr, 0, 3}, 3);
}

// For the figure in the header; it decides nothing.
void print_time() {
  const std::vector<float> row = Numbers(3).floats(151936);
  int64_t sum = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int n = 0; n < 200; ++n) sum += summarize_row(row.data(), 151936, 151669).argmax;
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
  std::printf("a row of 151,936 logits: %.1f microseconds (%lld)\n", time.count() / 200, static_cast<long long>(sum));
}

}  // namespace

int main() {
  test_random_rows();
  test_edges();
  print_time();
  return failures != 0;
}
