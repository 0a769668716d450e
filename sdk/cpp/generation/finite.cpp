#include "generation/finite.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "error.h"

namespace rubricrm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Comparisons are false for NaN. There is no early end, so that the loop is one of vectors.
bool are_numbers(const float* row, int64_t num_tokens, int64_t vocab_size) {
  unsigned bad = 0;
  for (int64_t i = 0; i < num_tokens; ++i) bad |= !(std::fabs(row[i]) < kInfinity);
  for (int64_t i = num_tokens; i < vocab_size; ++i) bad |= !(row[i] < kInfinity);
  return bad == 0;
}

// As Python prints it.
const char* name_of(float value) { return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf"; }

}  // namespace

void check_finite(const Chunk& chunk, const Logits& logits, int64_t num_tokens, const std::string& path) {
  int row = 0;
  while (row < logits.rows && are_numbers(logits.row(row), std::min(num_tokens, logits.vocab_size), logits.vocab_size)) {
    ++row;
  }
  if (row == logits.rows) return;
  const float* begin = logits.row(row);
  const float* end = begin + logits.vocab_size;
  const auto is_bad = [](float value) { return !std::isfinite(value); };
  const int64_t count = std::count_if(begin, end, is_bad);
  const std::string first = name_of(*std::find_if(begin, end, is_bad));
  const int from_end = logits.rows - row;
  const int64_t position = chunk.slot->length() - from_end;
  const int32_t token_id = chunk.token_ids[chunk.token_ids.size() - from_end];
  chunk.slot->clear();
  throw Error(Code::OUTPUT_INVALID,
              "running " + path + ": " + std::to_string(count) + " of " + std::to_string(logits.vocab_size) +
                  " logits are not finite (the first is " + first + ") after token " + std::to_string(token_id) +
                  " at position " + std::to_string(position) +
                  ", expected numbers. Its weights hold NaN or infinity, or its numbers exceed the range of the type "
                  "that it computes in: compare the files (`rubricrm inspect --verify`), or export it again with "
                  "another type.");
}

}  // namespace rubricrm
