// A rubric as the C API shows it: the public struct, and behind it the memory that it points to.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "rubric/rubric.h"
#include "rubricrm.h"

namespace rubricrm {

// Criteria as the C API shows them; `criteria` must outlive them.
std::vector<rubricrm_criterion> show(const std::vector<Criterion>& criteria);

// The public struct comes first: a pointer to one is a pointer to the other.
class RubricView : public rubricrm_rubric {
 public:
  // is_owned: whether rubricrm_rubric_free frees it; else it belongs to another object.
  RubricView(Rubric rubric, bool is_owned);
  RubricView(const RubricView&) = delete;
  RubricView& operator=(const RubricView&) = delete;

  static const RubricView* of(const rubricrm_rubric* rubric) { return static_cast<const RubricView*>(rubric); }
  bool is_owned() const { return is_owned_; }
  const Rubric& rubric() const { return rubric_; }
  const char* json() const;  // made at the first call

 private:
  const Rubric rubric_;
  const bool is_owned_;
  std::vector<rubricrm_criterion> shown_criteria_;
  std::vector<rubricrm_issue> shown_issues_;
  mutable std::once_flag once_;
  mutable std::string json_;
};

}  // namespace rubricrm
