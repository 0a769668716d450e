// What stands around the items and belongs to none: code fences, tags such as <rubric>, the marks of a quotation.
#pragma once

#include <vector>

#include "rubric/characters.h"

namespace rubricrm::rubric {

struct Unwrapped {
  size_t start;
  size_t end;
  std::vector<Text> wrappers;  // what was taken off
};

// The bounds of the text inside fences and wrapper tags, between two indexes.
Unwrapped strip_wrappers(Text text, size_t start, size_t end);
// Whether a line holds nothing but tags of any name.
bool is_wrapper_alone(Text text);
// The issue that a wrapper is.
const char* wrapper_code(Text wrapper);

}  // namespace rubricrm::rubric
