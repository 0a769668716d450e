// Fragments of lines become criteria, one after another.
//
// An item is open from its number until its tag ends a line, or until the next item starts. What a line means follows
// from it and the lines before it.
//
// What a text leaves open is read like this:
//
// - A number inside an open item starts the next item if it is the next one and the item is complete or "The response"
//   follows; another number, or one indented by two columns or more, belongs to a list inside the item.
// - After a tag, a number needs two of three to start an item at once: to be the next, to stand at the items' indent,
//   to be followed by "The response". With less it needs a tag of its own, else it is a list that belongs to no item.
// - A line without number or bullet is an item if it has a tag and starts with "The response" or, where no item has a
//   number, a full stop before its tag; with the lines before it where these leave their sentence open. Without a tag
//   it is preamble or trailing text.
// - A few words with a tag that are no sentence may be a title: what follows and has no mark describes it, and is the
//   criterion. A few words without one, above items of another style, are a heading.
// - A tag in quotes is text. Of several tags the one at the end of the item counts, else the first.
// - A heading that names a kind gives it to the items below that have no tag.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "rubric/criteria.h"
#include "rubric/item.h"
#include "rubric/report.h"

namespace rubricrm::rubric {

// Reads fragments in order; `criteria` grows as items close. The cost is linear in the length of the text.
class ItemReader {
 public:
  // The report outlives it.
  explicit ItemReader(Report& report) : report_(report), list_(report) {}

  const std::vector<Criterion>& criteria() const { return list_.found(); }
  // The number of the item that is open, else of the last one.
  int number_so_far() const;
  // The number of the item that may start now; none where an item is open.
  std::optional<int> next_number() const;
  // Whether a sentence of an item is not ended yet.
  bool is_inside() const { return item_ && !item_->is_ended(); }
  // The line of the item that is open.
  std::optional<size_t> open_line() const;

  // Reads a line, or a part of one.
  void read(const std::shared_ptr<const Fragment>& fragment, bool is_after_blank);
  // Closes what is open.
  void finish(bool truncated);

 private:
  using Shared = std::shared_ptr<const Fragment>;

  void read_outside(const Shared& fragment, const OpenItem* after);
  bool read_heading_line(const Fragment& fragment);
  bool can_be_item(const Fragment& fragment) const;
  bool can_be_half(const Fragment& fragment) const;
  bool is_doubtful(const Fragment& fragment, const OpenItem* after) const;
  bool is_section_above(const OpenItem& item, const Fragment& fragment) const;
  bool ends(const OpenItem& item, const Fragment& fragment, bool is_after_blank) const;
  bool is_new_item(const OpenItem& item, const Fragment& fragment) const;
  bool is_new_number(const OpenItem& item, int number, bool says, bool is_deep) const;
  bool is_no_part(const OpenItem& item, const Fragment& fragment, bool is_after_blank) const;
  void continue_item(OpenItem& item, const Shared& fragment);
  void close_at_tag(const Fragment& fragment);
  OpenItem end_item();
  OpenItem take_item();

  Report& report_;
  Criteria list_;
  std::optional<OpenItem> item_;
  std::optional<Kind> heading_;
};

}  // namespace rubricrm::rubric
