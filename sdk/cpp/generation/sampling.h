// Logits to token, exactly as rubricrm/generation/sampling.py defines it (docs/NATIVE_SPEC.md, "Choice of tokens").
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "generation/options.h"

namespace rubricrm {

// Natural logarithms of probability, before temperature and filters, over the whole vocabulary.
struct TokenLogprobs {
  int32_t token_id;
  double logprob;
  std::vector<std::pair<int32_t, double>> top;  // the most probable first, ties by id
};

// What is sampled from: the ids that remain, ascending, and their weights; the highest weight is 2^40.
struct Weights {
  std::vector<int32_t> ids;
  std::vector<int64_t> weights;
};

// Uniform number `index` of a seed, from 0 to 2^53 - 1.
uint64_t uniform(uint64_t seed, uint64_t index);

// The largest of `count` logits, none of which is NaN; minus infinity where there is none.
float largest_value(const float* logits, int64_t count);

// The first of the largest of `count` logits, none of which is NaN; 20 microseconds for 151,669 of them.
int32_t largest(const float* logits, int64_t count);

// The log-probability of a token and of the `num_top` most probable ones. `logits`: [vocab_size], the whole row, rows
// of padding too.
TokenLogprobs logprobs(const float* logits, int64_t vocab_size, int32_t token_id, int64_t num_top);

// Chooses tokens. It keeps memory from one choice to the next (up to 24 bytes per token of the vocabulary, from the
// first one that is sampled on), so it belongs to one thread at a time.
class Sampler {
 public:
  // The token that follows. Greedy, it costs as much as `largest`; sampled 0.25 ms for 151,669 tokens, with filters
  // 0.3 to 0.9 ms.
  // logits: [count], padding cut off, no NaN, at least one finite. index: how many tokens were chosen before.
  int32_t choose(const float* logits, int64_t count, const GenerationOptions& options, uint64_t seed, uint64_t index);

  // As choose, of the logits of some ids alone, ascending, of which there is at least one.
  int32_t choose_among(const std::vector<int32_t>& ids, const float* logits, const GenerationOptions& options,
                       uint64_t seed, uint64_t index);

  // What `choose` samples from; valid until the next call.
  const Weights& weights(const float* logits, int64_t count, const GenerationOptions& options);

 private:
  // What a filter keeps: all above the least weight, and the first of those that have it, `count` together.
  struct Cut {
    int64_t least;
    int64_t count;
  };

  Cut top_k_cut(int64_t top_k);
  Cut top_p_cut(double top_p);
  void keep(Cut cut);
  void keep_from(int64_t least);
  template <class IsReached>
  Cut cut_where(IsReached is_reached);

  Weights kept_;
  std::vector<int64_t> sorted_;
  std::vector<float> gathered_;
};

}  // namespace rubricrm
