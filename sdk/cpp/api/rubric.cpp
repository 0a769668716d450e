// Section 4 of rubricrm.h.
#include <algorithm>
#include <memory>
#include <utility>

#include "api/errors.h"
#include "api/rubric_view.h"
#include "api/text_view.h"
#include "rubric/form.h"

namespace rubricrm {
namespace {

rubricrm_kind show(const std::optional<Kind>& kind) {
  if (!kind) return RUBRICRM_NO_KIND;
  return *kind == Kind::kHardRule ? RUBRICRM_HARD_RULE : RUBRICRM_PRINCIPLE;
}

static_assert(RUBRICRM_HARD_RULE_WEIGHT == KindWeights{}.hard_rule);
static_assert(RUBRICRM_PRINCIPLE_WEIGHT == KindWeights{}.principle);

// One of the functions that write the form.
rubricrm_code give_form(std::string (*write)(int), uint32_t max_items, const rubricrm_text** text,
                        rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_text*& made = output(text, "text");
    made = new_text(write(max_items == 0 ? kMaxItems : static_cast<int>(std::min<uint32_t>(max_items, INT32_MAX))));
  });
}

}  // namespace

std::vector<rubricrm_criterion> show(const std::vector<Criterion>& criteria) {
  std::vector<rubricrm_criterion> shown;
  for (const Criterion& criterion : criteria) {
    const Span& span = criterion.span;
    shown.push_back({criterion.number ? *criterion.number : -1, view_of(criterion.text), show(criterion.kind),
                     static_cast<uint32_t>(span.line), static_cast<uint32_t>(span.column), span.start, span.end});
  }
  return shown;
}

RubricView::RubricView(Rubric rubric, bool is_owned)
    : rubricrm_rubric{}, rubric_(std::move(rubric)), is_owned_(is_owned), shown_criteria_(show(rubric_.criteria)) {
  for (const Issue& issue : rubric_.issues) {
    shown_issues_.push_back({issue.code.c_str(), static_cast<uint32_t>(issue.line), view_of(issue.message)});
  }
  criteria = shown_criteria_.data();
  num_criteria = shown_criteria_.size();
  issues = shown_issues_.data();
  num_issues = shown_issues_.size();
}

const char* RubricView::json() const {
  std::call_once(once_, [this] { json_ = rubric_.to_json(); });
  return json_.c_str();
}

}  // namespace rubricrm

using namespace rubricrm;

extern "C" {

rubricrm_code rubricrm_parse(const char* text, size_t size, const rubricrm_parse_options* options,
                             const rubricrm_rubric** rubric, rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_rubric*& made = output(rubric, "rubric");
    const rubricrm_parse_options given = read_options(options, "options");
    check_reserved(given.reserved, "options");
    ParseOptions how;
    how.truncated = is_on(given.truncated, "truncated", false);
    how.starts_in_thought = is_on(given.starts_in_thought, "starts_in_thought", false);
    how.strict = is_on(given.strict, "strict", false);
    made = std::make_unique<RubricView>(parse(text_of(text, size, "text"), how), true).release();
  });
}

const char* rubricrm_rubric_json(const rubricrm_rubric* rubric) {
  if (rubric == nullptr) return nullptr;
  return guarded_or<const char*>(nullptr, [&] { return RubricView::of(rubric)->json(); });
}

rubricrm_code rubricrm_rubric_render(const rubricrm_rubric* rubric, const rubricrm_text** text, rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_text*& made = output(text, "text");
    made = new_text(RubricView::of(&required(rubric, "rubric"))->rubric().render());
  });
}

rubricrm_code rubricrm_rubric_weights(const rubricrm_rubric* rubric, double hard_rule, double principle,
                                      double* weights, size_t num_weights, rubricrm_error* error) {
  return guarded(error, [&] {
    const Rubric& found = RubricView::of(&required(rubric, "rubric"))->rubric();
    const std::vector<double> all = found.weights({hard_rule, principle});
    if (!all.empty()) required(weights, "weights");
    if (num_weights < all.size()) {
      throw Error(Code::OPTION_INVALID, "num_weights is " + std::to_string(num_weights) + ", expected at least " +
                                            std::to_string(all.size()) + ", one per criterion.");
    }
    std::copy(all.begin(), all.end(), weights);
  });
}

rubricrm_code rubricrm_form_regex(uint32_t max_items, const rubricrm_text** text, rubricrm_error* error) {
  return give_form(form_regex, max_items, text, error);
}

rubricrm_code rubricrm_form_gbnf(uint32_t max_items, const rubricrm_text** text, rubricrm_error* error) {
  return give_form(form_gbnf, max_items, text, error);
}

void rubricrm_text_free(const rubricrm_text* text) { delete static_cast<const TextView*>(text); }

void rubricrm_rubric_free(const rubricrm_rubric* rubric) {
  const RubricView* view = RubricView::of(rubric);
  if (view != nullptr && view->is_owned()) delete view;
}

}  // extern "C"
