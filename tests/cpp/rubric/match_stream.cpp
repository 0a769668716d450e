// Reads texts from standard input and prints what every pattern finds in them, for tests that compare it with `re`.
//
// A text is a line `START END LENGTH` and that many bytes of UTF-8. The answer is one line per pattern: its name, and
// for match, full_match and search from START to END the bounds of all groups that took part, as GROUP:START-END, or
// "-".
#include <cstdio>
#include <iostream>
#include <string>

#include "rubric/tables.h"
#include "rubric/utf8.h"

using namespace rubricrm::rubric;

namespace {

std::string bounds_of(const std::optional<Match>& match) {
  if (!match) return " -";
  std::string bounds;
  for (int i = 0; i < kNumGroups; ++i) {
    const Group group = static_cast<Group>(i);
    if (!match->has(group)) continue;
    bounds += i == 0 ? " " : ",";
    bounds += std::to_string(i) + ":" + std::to_string(match->start(group)) + "-" + std::to_string(match->end(group));
  }
  return bounds;
}

}  // namespace

int main() {
  size_t start = 0, end = 0;
  for (size_t length = 0; std::cin >> start >> end >> length;) {
    std::cin.get();
    std::string bytes(length, '\0');
    std::cin.read(bytes.data(), static_cast<std::streamsize>(length));
    const std::u32string text = from_utf8(bytes);
    for (size_t i = 0; i < patterns::kNumPatterns; ++i) {
      const Pattern& pattern = *patterns::kAll[i];
      const std::string found = bounds_of(pattern.match(text, start, end)) +
                                bounds_of(pattern.full_match(text, start, end)) +
                                bounds_of(pattern.search(text, start, end));
      std::printf("%s%s\n", pattern.name(), found.c_str());
    }
  }
  return 0;
}
