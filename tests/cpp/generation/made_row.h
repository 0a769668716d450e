// Rows of logits that tests in every language make from a few numbers: see tests/cases/sampling/README.md.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "generation/sampling.h"

struct MadeRow {
  uint64_t seed = 0;
  int64_t count = 1;
  double scale = 1.0;   // logits are between -scale and scale
  double levels = 0.0;  // so many values in each 1 of logit; 0: any
  int64_t peaks = 0;    // logits, perhaps the same one twice, to which scale is added
};

inline std::vector<float> made_row(const MadeRow& made) {
  std::vector<float> row(made.count);
  for (int64_t n = 0; n < made.count; ++n) {
    double value = (std::ldexp(static_cast<double>(rubricrm::uniform(made.seed, n)), -52) - 1.0) * made.scale;
    if (made.levels > 0.0) value = std::floor(value * made.levels) / made.levels;
    row[n] = static_cast<float>(value);
  }
  for (int64_t n = 0; n < made.peaks; ++n) {
    row[rubricrm::uniform(made.seed + 1, n) % made.count] += static_cast<float>(made.scale);
  }
  return row;
}
