// A result as the C API shows it: the public struct, and behind it the memory that it points to.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/rubric_view.h"
#include "generation/result.h"
#include "rubricrm.h"

namespace rubricrm {

class ResultView : public rubricrm_result {
 public:
  // Of a rubric, or of a text alone, whose grammar may have overruled the model too.
  explicit ResultView(RubricResult result);
  ResultView(TextResult result, std::optional<Overrules> overrules);
  ResultView(const ResultView&) = delete;
  ResultView& operator=(const ResultView&) = delete;

  static const ResultView* of(const rubricrm_result* result) { return static_cast<const ResultView*>(result); }
  const char* json() const;  // made at the first call

 private:
  void show();
  void show_logprobs();

  const RubricResult result_;
  const std::unique_ptr<const RubricView> shown_rubric_;  // null: a text's result
  rubricrm_overrules shown_overrules_{};
  std::vector<std::vector<rubricrm_logprob>> shown_top_;
  std::vector<rubricrm_token_logprobs> shown_logprobs_;
  mutable std::once_flag once_;
  mutable std::string json_;
};

}  // namespace rubricrm
