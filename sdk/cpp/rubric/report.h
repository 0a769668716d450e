// The issues of a rubric while it is read.
#pragma once

#include <string>
#include <vector>

#include "rubric/characters.h"
#include "rubric/criterion.h"

namespace rubricrm::rubric {

constexpr size_t kQuotedCharacters = 48;

// Collects issues, in any order.
class Report {
 public:
  void add(const char* code, size_t line, std::string message);
  void add(const std::vector<Issue>& issues);
  bool has(const char* code) const;
  const std::vector<Issue>& issues() const { return issues_; }
  // By line, then code; those with the same of both in the order in which they were added.
  std::vector<Issue> in_order() const;

 private:
  std::vector<Issue> issues_;
};

// A text in quotes, shortened, for a message.
std::string quote(Text text);

}  // namespace rubricrm::rubric
