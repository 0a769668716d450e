// How to generate: the options of one call.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rubricrm {

constexpr int64_t kMostLogprobs = 20;

// The defaults decode greedily, whatever the checkpoint's own defaults are.
struct GenerationOptions {
  std::optional<int64_t> max_new_tokens;  // most tokens to generate; none: the bundle's default
  double temperature = 0.0;               // 0 is greedy; otherwise, from 0.001, logits are divided by it
  int64_t top_k = 0;                      // keep the k most probable tokens; 0 keeps all
  double top_p = 1.0;                     // keep the fewest most probable tokens that hold this much; 1 keeps all
  double min_p = 0.0;             // keep tokens at least this probable, relative to the most probable one; 0 keeps all
  std::optional<uint64_t> seed;   // none draws one and reports it
  std::vector<std::string> stop;  // UTF-8: strings that end the text; they are not part of it
  std::optional<int64_t> logprobs;  // of the chosen token and so many most probable ones; none: of no token
  std::optional<double> timeout_s;  // seconds from the request after which what there is is returned
  bool stop_on_repetition = true;   // end a text that goes in circles: see repetition.h
  int64_t priority = 0;             // of requests that wait, those with the highest are computed first
  bool constrain = true;            // hold a rubric to its form

  // Whether the most probable token is always taken.
  bool is_greedy() const { return temperature == 0.0; }

  // Throws OPTION_INVALID with Python's words for the first value that is out of range.
  void check() const;
};

}  // namespace rubricrm
