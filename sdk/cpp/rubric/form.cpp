#include "rubric/form.h"

#include "error.h"
#include "rubric/tables.h"
#include "rubric/utf8.h"

namespace rubricrm::rubric {
namespace {

constexpr size_t kMostQuoted = 80;

[[noreturn]] void refuse(const std::string& what, const std::string& expected) {
  throw Error(Code::RUBRIC_MALFORMED, what + ", expected " + expected + ". Generate the rubric again.");
}

void check_line(Text line, int number) {
  const auto read = read_form_line(line);
  if (read && read->number == number) return;
  const std::string start = std::to_string(number) + ". The response ... ";
  refuse("line " + std::to_string(number) + " is " + to_utf8(slice(represent(line), 0, kMostQuoted)),
         "\"" + start + kind_tag(Kind::kHardRule) + "\" or \"... " + kind_tag(Kind::kPrinciple) + "\"");
}

}  // namespace

std::optional<FormLine> read_form_line(Text line) {
  // Which is quick to tell of most other lines.
  const Text end = strip_end(last(line, 2), U" ");
  if (end.empty() || end.back() != U']') return std::nullopt;
  const auto match = patterns::form::kLine.full_match(line);
  if (!match) return std::nullopt;
  const Text item = (*match)[Group::kItem];
  const Kind kind = ends_with(item, from_utf8(kind_tag(Kind::kHardRule))) ? Kind::kHardRule : Kind::kPrinciple;
  const size_t tag_end = match->end(Group::kItem);
  return FormLine{static_cast<int>(decimal_value((*match)[Group::kNumber])), match->start(Group::kItem),
                  tag_end - std::string_view(kind_tag(kind)).size(), tag_end, kind};
}

void check_form(Text text, int max_items) {
  if (ends_with(text, U"\n")) text.remove_suffix(1);
  int number = 0;
  for (size_t start = 0; start != Text::npos;) {
    const size_t end = text.find(U'\n', start);
    check_line(slice(text, start, end), ++number);
    start = end == Text::npos ? end : end + 1;
  }
  if (number > max_items) {
    refuse("there are " + std::to_string(number) + " items", "at most " + std::to_string(max_items));
  }
}

}  // namespace rubricrm::rubric

namespace rubricrm {

using rubric::kItemRegex;
using rubric::kItemRules;

namespace {

// An expression in more parentheses than Rust's `regex` reads is of no use.
constexpr int kMostItems = 64;

void check_max_items(int max_items) {
  if (max_items >= 1 && max_items <= kMostItems) return;
  throw Error(Code::OPTION_INVALID,
              "max_items must be from 1 to " + std::to_string(kMostItems) + ", got " + std::to_string(max_items) + ".");
}

}  // namespace

std::string form_regex(int max_items) {
  check_max_items(max_items);
  std::string lines;
  for (int number = 1; number <= max_items; ++number) {
    if (number > 1) lines += "(?:\\n";
    lines += std::to_string(number) + "\\. " + kItemRegex + " ?";
  }
  for (int number = 1; number < max_items; ++number) lines += ")?";
  return lines + "\\n?";
}

std::string form_gbnf(int max_items) {
  check_max_items(max_items);
  std::string lines;
  for (int number = 1; number <= max_items; ++number) {
    if (number > 1) lines += " (\"\\n\" ";
    lines += "\"" + std::to_string(number) + ". \" item \" \"?";
  }
  for (int number = 1; number < max_items; ++number) lines += ")?";
  return "root ::= " + lines + " \"\\n\"?\n" + kItemRules;
}

}  // namespace rubricrm
