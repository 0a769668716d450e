// Text becomes a typed rubric, and back: parse, stream, JSON, canonical text, weights.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rubric/criterion.h"

namespace rubricrm {

// What criteria of each kind weigh.
struct KindWeights {
  double hard_rule = 3.0;
  double principle = 1.0;
};

// What was found in a text: its criteria in order, and every deviation from the canonical form.
struct Rubric {
  std::vector<Criterion> criteria;  // the items that have a text, tagged or not
  std::vector<Issue> issues;        // by line, then code; text that is in no criterion is quoted in one of them

  // The weight of each criterion, in order. The defaults are those of RUBRIC-ARROW, whose reward is sum(w * score) /
  // sum(w). A criterion without kind weighs as a principle, as there: a lost tag must not make an item decide alone.
  // Throws OPTION_INVALID where a weight is no finite number >= 0, or both are 0.
  std::vector<double> weights(const KindWeights& of_kinds = {}) const;

  // The canonical text: a line `N. The response ... [Hard Rule]\n` per criterion, numbered from 1. The validators in
  // use accept it, and parsing it gives the same texts and kinds, and no issue but `repetition` where criteria are
  // equal. The cost is one parse of the result. Throws RUBRIC_MALFORMED where there is no criterion, or one has no
  // canonical form.
  std::string render() const;

  // The JSON text of what Python's `Rubric.to_json(indent=...)` writes, byte for byte: schema_version, criteria,
  // issues. Spans are left out: they belong to the text, not to the rubric.
  std::string to_json(std::optional<int> indent = std::nullopt) const;
};

struct ParseOptions {
  bool truncated = false;  // the generator was cut (length, timeout, cancelled): the last item may be unfinished
  bool starts_in_thought = false;  // the prompt ended with the opening tag of a thought
  bool strict = false;             // take only a text that is in the form from its first character to its last
};

// Reads the rubric in a text of UTF-8; bytes that are none are read as U+FFFD, and reported as `undecodable`. The cost
// is linear. Throws RUBRIC_MALFORMED where `strict` and the text is not in the form, and REQUEST_INVALID for 2 GiB and
// more.
Rubric parse(std::string_view text, const ParseOptions& options = {});

}  // namespace rubricrm
