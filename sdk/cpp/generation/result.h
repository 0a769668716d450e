// What a generation gave: text or rubric, why it ended, what it cost; and its JSON, that of Python's results.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "generation/constraint.h"
#include "generation/finish_reason.h"
#include "generation/sampling.h"
#include "generation/sequence.h"
#include "rubric/rubric.h"

namespace rubricrm {

// Tokens of one generation. The end token is not counted.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_prompt_tokens = 0;  // how many of them were restored and not computed
  int64_t completion_tokens = 0;
  int64_t drafted_tokens = 0;
  int64_t accepted_tokens = 0;
};

// Milliseconds on one clock. How fast a stream is read makes no difference.
struct Timings {
  double tokenize = 0;                // text to prompt ids
  double prefill = 0;                 // restoring the prefix and computing the rest; 0 if it ended before
  std::optional<double> first_token;  // from the call to the first token, waiting for others included
  double decode = 0;                  // from the first token to the end
  double total = 0;                   // from the call to the end
};

// A finished generation.
struct TextResult {
  std::string text;  // without end token and stop string
  FinishReason finish_reason = FinishReason::NONE;
  Usage usage;
  Timings timings_ms;
  uint64_t seed = 0;
  std::optional<std::vector<TokenLogprobs>> logprobs;  // one entry per token, where they were asked for
  TokenIds token_ids;
};

// Name, weights, device, kernels and manifest hash of a model, in that order.
using Description = std::vector<std::pair<std::string, std::string>>;

// The rubric of a request, with the text that it was read from.
struct RubricResult {
  std::string request;
  TextResult text;
  Rubric rubric;
  std::optional<Overrules> grammar_overrules;  // none: nothing held it to the form
  Description model;
};

// The result of a sequence that has ended, or what there is of it. `tokenized`: when its prompt was encoded.
TextResult text_result(const Sequence& sequence, Time tokenized);

// The JSON texts of Python's TextResult.to_json and RubricResult.to_json; `indent` as there, none: one line.
std::string to_json(const TextResult& result, std::optional<int> indent = std::nullopt);
std::string to_json(const RubricResult& result, std::optional<int> indent = std::nullopt);

}  // namespace rubricrm
