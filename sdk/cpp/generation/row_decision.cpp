#include "generation/row_decision.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "generation/decision.h"
#include "runtime/row_summary.h"

namespace rubricrm {
namespace {

// As Python prints it.
const char* name_of(float value) { return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf"; }

[[noreturn]] void fail(const Chunk& chunk, const Logits& logits, int row, const std::string& path) {
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

bool ends(const Sequence& sequence, int32_t token_id) {
  const TokenIds& stop_ids = sequence.stop_ids();
  return std::find(stop_ids.begin(), stop_ids.end(), token_id) != stop_ids.end();
}

}  // namespace

TokenIds best_tokens(const Chunk& chunk, const Logits& logits, int64_t num_tokens, const std::string& path) {
  TokenIds best;
  for (int row = 0; row < logits.rows; ++row) {
    const RowSummary summary = summarize_row(logits.row(row), logits.vocab_size, num_tokens);
    if (!summary.finite) fail(chunk, logits, row, path);
    best.push_back(summary.argmax);
  }
  return best;
}

int64_t decide(Sequence& sequence, Sampler& sampler, const Logits& logits, const TokenIds& best,
               const TokenIds& drafted, int64_t num_tokens) {
  const int64_t num_drafted = static_cast<int64_t>(drafted.size());
  sequence.begin_step(num_drafted);
  for (int row = 0; row < logits.rows; ++row) {
    const Decision decision{logits.row(row), logits.vocab_size, num_tokens, best[row], sequence.seed(),
                            sequence.token_ids().size(), sequence.tokens_left()};
    const int32_t token_id = next_token(decision, sequence.options(), sequence.constraint(), sampler);
    const bool comes_true = row < num_drafted && token_id == drafted[row];
    if (ends(sequence, token_id)) {
      sequence.stop();
    } else {
      sequence.push(token_id, next_logprobs(decision, sequence.options(), token_id), comes_true);
    }
    // The rows after a draft that did not come true follow a text that is not there.
    if (sequence.is_finished() || !comes_true) return row;
  }
  return 0;
}

}  // namespace rubricrm
