// Criteria that are written again: a model in a loop, or a list that was given twice.
#pragma once

#include <optional>
#include <vector>

#include "rubric/criterion.h"

namespace rubricrm::rubric {

// The issue of a list that repeats itself, at the first criterion that is written again. The cost is linear.
//
// A list repeats itself if a text is there three times, if two neighbors follow each other twice, or if a text goes in
// circles. Numbers and kinds do not count.
std::optional<Issue> find_repetition(const std::vector<Criterion>& criteria);

}  // namespace rubricrm::rubric
