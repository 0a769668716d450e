#include "runtime/row_summary.h"

#include <algorithm>
#include <limits>

namespace rubricrm {
namespace {

constexpr int64_t kLanes = 16;    // of independent sums, so that the compiler makes vectors of them
constexpr int64_t kBlock = 1024;  // whose largest number is compared at once
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Lanes {
  float most[kLanes];
  float zeros[kLanes];  // 0 times every number so far: NaN where one was none

  Lanes() {
    std::fill_n(most, kLanes, -kInfinity);
    std::fill_n(zeros, kLanes, 0.0f);
  }

  void add(const float* x) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      most[lane] = x[lane] > most[lane] ? x[lane] : most[lane];
      zeros[lane] += x[lane] * 0.0f;
    }
  }

  float largest() const { return *std::max_element(most, most + kLanes); }

  bool are_finite() const {
    return std::all_of(zeros, zeros + kLanes, [](float zero) { return zero == 0.0f; });
  }
};

bool is_padding_ruled_out_or_finite(const float* row, int64_t count) {
  bool is_fine = true;
  for (int64_t n = 0; n < count; ++n) is_fine &= row[n] < kInfinity;  // false for NaN
  return is_fine;
}

}  // namespace

RowSummary summarize_row(const float* row, int64_t vocab_size, int64_t num_tokens) {
  float most = -kInfinity;
  int64_t block = 0;
  bool finite = true;
  for (int64_t start = 0; start < num_tokens; start += kBlock) {
    const int64_t end = std::min(start + kBlock, num_tokens);
    Lanes lanes;
    int64_t n = start;
    for (; n + kLanes <= end; n += kLanes) lanes.add(row + n);
    float largest = lanes.largest();
    finite &= lanes.are_finite();
    for (; n < end; ++n) {
      largest = row[n] > largest ? row[n] : largest;
      finite &= row[n] * 0.0f == 0.0f;
    }
    if (largest > most) {
      most = largest;
      block = start;
    }
  }
  finite &= is_padding_ruled_out_or_finite(row + num_tokens, vocab_size - num_tokens);
  const float* const begin = row + block;
  const float* const end = row + std::min(block + kBlock, num_tokens);
  const float* found = std::find(begin, end, most);
  return {static_cast<int32_t>(found == end ? 0 : found - row), finite};
}

bool check_finite(const Logits& logits, int64_t num_tokens) {
  for (int n = 0; n < logits.rows; ++n) {
    if (!summarize_row(logits.row(n), logits.vocab_size, num_tokens).finite) return false;
  }
  return true;
}

}  // namespace rubricrm
