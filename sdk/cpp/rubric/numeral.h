// What number a numeral stands for: digits of any script, letters, Roman and Chinese numerals, enclosed characters.
#pragma once

#include <optional>

#include "rubric/characters.h"

namespace rubricrm::rubric {

// The number that a numeral stands for, as a pattern of `mark` found it; `expected` chooses where it stands for two (i
// is 1 and 9).
std::optional<int> number_of(Text written, int expected);

}  // namespace rubricrm::rubric
