// One line of a rubric, and what can be wrong with it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace rubricrm {

// What a criterion is: explicit in the request, or good practice derived from it.
enum class Kind { kHardRule, kPrinciple };

// "hard_rule" or "principle".
inline const char* kind_name(Kind kind) { return kind == Kind::kHardRule ? "hard_rule" : "principle"; }
// The tag that ends a canonical line.
inline const char* kind_tag(Kind kind) { return kind == Kind::kHardRule ? "[Hard Rule]" : "[Principle]"; }

// Where a criterion stands in the text, from its number to the end of its tag. All counts are of code points. Line and
// column are those of the start, from 1; all are 0 where the criterion came from no text.
struct Span {
  size_t start = 0;
  size_t end = 0;
  size_t line = 0;
  size_t column = 0;
};

// One item of a rubric. Two are equal when number, text and kind are, wherever they stand.
struct Criterion {
  std::optional<int> number;  // as written in the text
  std::string text;           // UTF-8, without number and tag, wrapped lines joined by one space
  std::optional<Kind> kind;   // none where the text did not say
  Span span;

  bool operator==(const Criterion& other) const {
    return number == other.number && text == other.text && kind == other.kind;
  }
  bool operator!=(const Criterion& other) const { return !(*this == other); }
};

// One deviation from the canonical form.
struct Issue {
  std::string code;     // one of ISSUE_CODES of rubric/criterion.py: docs/CLI.md lists them
  size_t line;          // from 1
  std::string message;  // for a person, with a shortened quote
};

}  // namespace rubricrm
