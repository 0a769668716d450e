#include "rubric/report.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "rubric/utf8.h"

namespace rubricrm::rubric {

void Report::add(const char* code, size_t line, std::string message) {
  issues_.push_back({code, line, std::move(message)});
}

void Report::add(const std::vector<Issue>& issues) { issues_.insert(issues_.end(), issues.begin(), issues.end()); }

bool Report::has(const char* code) const {
  return std::any_of(issues_.begin(), issues_.end(), [code](const Issue& issue) { return issue.code == code; });
}

std::vector<Issue> Report::in_order() const {
  std::vector<Issue> sorted = issues_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Issue& a, const Issue& b) { return std::tie(a.line, a.code) < std::tie(b.line, b.code); });
  return sorted;
}

std::string quote(Text text) {
  const std::u32string words = join(split(slice(text, 0, 2 * kQuotedCharacters)));
  const bool is_long = words.size() > kQuotedCharacters;
  return '"' + to_utf8(slice(words, 0, kQuotedCharacters)) + (is_long ? "…\"" : "\"");
}

}  // namespace rubricrm::rubric
