#include "rubric/rubric.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "error.h"
#include "rubric/characters.h"
#include "rubric/form.h"
#include "rubric/rubric_reader.h"
#include "rubric/tables.h"
#include "rubric/utf8.h"

namespace rubricrm {
namespace {

using namespace rubric;

constexpr size_t kMostQuoted = 80;
// The validator of RUBRIC-ARROW cuts these out of a text before it reads the items.
constexpr std::string_view kCutByValidators[] = {"</think>", "</answer>", "```"};

std::string represented(Text text) { return to_utf8(slice(represent(text), 0, kMostQuoted)); }

[[noreturn]] void refuse(size_t number, const std::string& why) {
  throw Error(Code::RUBRIC_MALFORMED, "criterion " + std::to_string(number) + " " + why);
}

void check_canonical(size_t number, const Criterion& criterion) {
  const std::u32string text = from_utf8(criterion.text);
  if (is_blank(text)) refuse(number, "has no text. Remove it.");
  const std::string quoted = represented(text);
  if (!criterion.kind) refuse(number, "has no kind: " + quoted + ". Set it to a hard rule or a principle.");
  if (std::any_of(text.begin(), text.end(), is_line_break)) {
    refuse(number, "spans lines: " + quoted + ". Join them by spaces.");
  }
  if (!patterns::rubric::kOpening.match(text)) {
    refuse(number, "must start with \"The response \", got " + quoted + ". Reword it.");
  }
  const std::string small = to_utf8(lower(text));
  for (const std::string_view mark : kCutByValidators) {
    if (small.find(mark) == std::string::npos) continue;
    refuse(number, "holds '" + std::string(mark) + "', which validators cut out. Reword it.");
  }
}

// Refuses what would read differently: `The response ... [Hard Rule] 2. The response ...` is two items.
void check_same(const std::vector<Criterion>& criteria, const Rubric& again) {
  for (size_t i = 0; i < criteria.size(); ++i) {
    const size_t number = i + 1;
    const auto issue = std::find_if(again.issues.begin(), again.issues.end(), [number](const Issue& found) {
      return found.line == number && found.code != "repetition";
    });
    const Criterion* const read = i < again.criteria.size() ? &again.criteria[i] : nullptr;
    const Criterion expected = {static_cast<int>(number), criteria[i].text, criteria[i].kind, {}};
    if (issue == again.issues.end() && read != nullptr && *read == expected) continue;
    const std::string why = issue != again.issues.end() ? issue->code + ", " + issue->message
                            : read != nullptr           ? represented(from_utf8(read->text))
                                                        : "nothing";
    refuse(number, "would not be read back as it is (" + why + "). Reword it.");
  }
}

std::string written(double number) {
  char digits[40];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  const std::string text(digits, end);
  return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;
}

void check_weight(const char* name, double weight) {
  if (weight >= 0 && std::isfinite(weight)) return;
  throw Error(Code::OPTION_INVALID,
              std::string("weight ") + name + " must be a finite number >= 0, got " + written(weight) + ".");
}

}  // namespace

std::vector<double> Rubric::weights(const KindWeights& of_kinds) const {
  check_weight("hard_rule", of_kinds.hard_rule);
  check_weight("principle", of_kinds.principle);
  if (of_kinds.hard_rule == 0 && of_kinds.principle == 0) {
    throw Error(Code::OPTION_INVALID, "weights hard_rule and principle are both 0: give one of them a value above 0.");
  }
  std::vector<double> all;
  for (const Criterion& criterion : criteria) {
    all.push_back(criterion.kind == Kind::kHardRule ? of_kinds.hard_rule : of_kinds.principle);
  }
  return all;
}

std::string Rubric::render() const {
  if (criteria.empty()) {
    throw Error(Code::RUBRIC_MALFORMED, "the rubric has no criteria, expected at least 1. Generate it again.");
  }
  std::string text;
  for (size_t i = 0; i < criteria.size(); ++i) {
    check_canonical(i + 1, criteria[i]);
    text += std::to_string(i + 1) + ". " + criteria[i].text + " " + kind_tag(*criteria[i].kind) + "\n";
  }
  check_same(criteria, parse(text));
  return text;
}

Rubric parse(std::string_view text, const ParseOptions& options) {
  if (options.strict) check_form(from_utf8(text));
  RubricReader reader(options.starts_in_thought);
  reader.feed(text);
  return reader.finish(options.truncated).rubric;
}

}  // namespace rubricrm
