#include "rubric/wrapper.h"

#include <algorithm>

#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

using patterns::wrapper::kLeading;
using patterns::wrapper::kTrailing;

constexpr size_t kLongest = 24;

}  // namespace

Unwrapped strip_wrappers(Text text, size_t start, size_t end) {
  Unwrapped inside = {start, end, {}};
  if (start < end && !contains(U"<`~>", text[start]) && !contains(U">`~", text[end - 1])) return inside;
  while (const auto match = kLeading.match(text, inside.start, end)) {
    inside.wrappers.push_back(strip(match->text()));
    inside.start = match->end();
  }
  start = inside.start;
  while (const auto match = kTrailing.search(text, std::max(start, end - std::min(end, kLongest)), end)) {
    inside.wrappers.push_back(match->text());
    end = match->start();
    while (end > start && is_space(text[end - 1])) --end;
  }
  inside.end = end;
  return inside;
}

bool is_wrapper_alone(Text text) {
  return starts_with(text, U"<") && patterns::wrapper::kAlone.full_match(text).has_value();
}

const char* wrapper_code(Text wrapper) { return contains(U"`~", wrapper[0]) ? "code_fence" : "wrapper"; }

}  // namespace rubricrm::rubric
