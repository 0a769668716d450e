#include "runtime/row_summary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "error.h"

namespace rubricrm {
namespace {

constexpr int64_t kBlock = 1024;  // whose largest number is compared at once
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Four numbers at once, which every processor of 64 bits can.
typedef float Four __attribute__((vector_size(16)));
constexpr int64_t kChains = 4;  // of independent operations
constexpr int64_t kStride = 4 * kChains;

struct Found {
  float most;
  bool finite;
};

Found find_in(const float* x, int64_t count) {
  Four most[kChains], zeros[kChains];  // 0 times every number so far: NaN where one was none
  for (int chain = 0; chain < kChains; ++chain) {
    most[chain] = Four{} - kInfinity;
    zeros[chain] = Four{};
  }
  int64_t n = 0;
  for (; n + kStride <= count; n += kStride) {
    for (int chain = 0; chain < kChains; ++chain) {
      Four four;
      std::memcpy(&four, x + n + 4 * chain, sizeof(four));
      most[chain] = four > most[chain] ? four : most[chain];
      zeros[chain] += four * 0.0f;
    }
  }
  Found found{-kInfinity, true};
  for (int chain = 0; chain < kChains; ++chain) {
    for (int lane = 0; lane < 4; ++lane) {
      found.most = std::max(found.most, most[chain][lane]);
      found.finite &= zeros[chain][lane] == 0.0f;
    }
  }
  for (; n < count; ++n) {
    found.most = x[n] > found.most ? x[n] : found.most;
    found.finite &= x[n] * 0.0f == 0.0f;
  }
  return found;
}

bool is_padding_ruled_out_or_finite(const float* row, int64_t count) {
  bool is_fine = true;
  for (int64_t n = 0; n < count; ++n) is_fine &= row[n] < kInfinity;  // false for NaN
  return is_fine;
}

[[noreturn]] void refuse(const Logits& logits, int row) {
  const float *const begin = logits.row(row), *const end = begin + logits.vocab_size;
  const auto is_odd = [](float x) { return !std::isfinite(x); };
  const float first = *std::find_if(begin, end, is_odd);
  throw Error(Code::OUTPUT_INVALID,
              std::to_string(std::count_if(begin, end, is_odd)) + " of " + std::to_string(logits.vocab_size) +
                  " logits are not finite (the first is " +
                  (std::isnan(first) ? "nan"
                   : first < 0       ? "-inf"
                                     : "inf") +
                  ") in row " + std::to_string(row + 1) + " of " + std::to_string(logits.rows) +
                  ", expected numbers. The model's weights hold NaN or infinity, or its numbers exceed the range of "
                  "the type that it computes in: compare the files (`rubricrm inspect --verify`), or export it again "
                  "with another type.");
}

}  // namespace

RowSummary summarize_row(const float* row, int64_t vocab_size, int64_t num_tokens) {
  float most = -kInfinity;
  int64_t block = 0;
  bool finite = true;
  for (int64_t start = 0; start < num_tokens; start += kBlock) {
    const int64_t end = std::min(start + kBlock, num_tokens);
    const Found found = find_in(row + start, end - start);
    finite &= found.finite;
    if (found.most > most) {
      most = found.most;
      block = start;
    }
  }
  finite &= is_padding_ruled_out_or_finite(row + num_tokens, vocab_size - num_tokens);
  const float* const begin = row + block;
  const float* const end = row + std::min(block + kBlock, num_tokens);
  const float* found = std::find(begin, end, most);
  return {static_cast<int32_t>(found == end ? 0 : found - row), finite};
}

void check_finite(const Logits& logits, int64_t num_tokens) {
  for (int n = 0; n < logits.rows; ++n) {
    if (!summarize_row(logits.row(n), logits.vocab_size, num_tokens).finite) refuse(logits, n);
  }
}

}  // namespace rubricrm
