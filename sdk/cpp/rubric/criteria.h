// Items that ended become criteria; what is wrong with them is reported, and what is in none of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "rubric/criterion.h"
#include "rubric/item.h"
#include "rubric/report.h"

namespace rubricrm::rubric {

// The criteria of a text in order.
class Criteria {
 public:
  // The report outlives it.
  explicit Criteria(Report& report) : report_(report) {}

  const std::vector<Criterion>& found() const { return found_; }
  bool has_numbers() const { return !numbers_.empty(); }
  // The number of the last item that had one, or 0.
  int last_number() const { return last_number_; }
  // The first line of the last criterion; null where there is none.
  const Fragment* last_head() const { return last_head_.get(); }

  // Adds an item whose tag ends its last line.
  void close(const OpenItem& item, const Tag& tag);
  // Adds an item that no tag closed, or reports why it is no criterion. `heading` is the kind that the heading above it
  // names; `at_end` says that the text ends with it, `truncated` that the text was cut there.
  void end(const OpenItem& item, std::optional<Kind> heading, bool at_end = false, bool truncated = false);
  // Reports text that is in no criterion.
  void set_aside(const Fragment& fragment);

 private:
  using Texts = std::vector<std::u32string>;

  void end_early_tagged(const OpenItem& item, size_t index);
  void end_untagged(const OpenItem& item, std::optional<Kind> kind, bool at_end, bool truncated);
  void end_empty(const OpenItem& item);
  void add(const OpenItem& item, Texts texts, std::optional<Kind> kind, size_t end, bool is_unbalanced = false);
  void report_tag(const Fragment& fragment, const Tag& tag, bool is_exact, bool is_only);
  void report_number(const Fragment& head);

  Report& report_;
  std::vector<Criterion> found_;
  std::unordered_set<int> numbers_;
  int last_number_ = 0;
  std::shared_ptr<const Fragment> last_head_;
  bool has_unended_ = false;
};

}  // namespace rubricrm::rubric
