// What a line is to the parser, and an item while it is open.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rubric/mark.h"
#include "rubric/tag.h"
#include "rubric/visible.h"

namespace rubricrm::rubric {

// A line, or the part of a line that may be one item. Tags and mark are offsets into its text.
class Fragment {
 public:
  // `text` is part of the source's text, from `begin` on.
  Fragment(std::shared_ptr<const VisibleLine> source, size_t begin, Text text, size_t indent, const Mark& mark,
           std::vector<Tag> tags);

  const Text text;
  const size_t indent;
  const Mark mark;
  const std::vector<Tag> tags;

  // Whether "The response" opens it, after its mark and a tag.
  bool says_response() const { return says_response_; }
  // Where it starts in the whole text.
  Place place() const { return source_->place(begin_); }
  // The number of its line.
  size_t line() const { return place().line; }
  // The offset in the whole text after the character before an index.
  size_t end_offset(size_t end) const { return source_->end_offset(begin_ + end); }
  // Whether "The response" with a capital letter opens it.
  bool opens_sentence() const;
  // The tag at its end; null where there is none.
  const Tag* closing_tag() const;
  // Whether a tag opens it, after its mark.
  bool starts_with_tag() const;
  // Its tag, where it holds nothing else; else null.
  const Tag* lone_tag() const;
  // Whether white space alone stands around a tag at the end, and no dash before it.
  bool is_set_off(const Tag& tag) const;
  // Whether it is a title without number, set as one, with its tag.
  bool is_tagged_title() const;
  // Whether it holds more than a mark and tags.
  bool has_words() const;
  // What stands between two indexes.
  std::u32string shown(size_t start, size_t end) const;
  // An index after escaped line breaks.
  size_t start_after_breaks(size_t start) const;
  // An index before escaped line breaks.
  size_t end_before_breaks(size_t start, size_t end) const;
  // Where the text before a tag ends, without a dash or an escaped line break between them.
  size_t end_before_separator(size_t start, const Tag& tag) const;

 private:
  std::shared_ptr<const VisibleLine> source_;
  size_t begin_;
  bool says_response_;
};

// An item that is not closed yet.
class OpenItem {
 public:
  // A doubtful one is a criterion only if it gets a tag. A half one has a first line without mark that is known: with a
  // tag in its next lines it is a sentence.
  OpenItem(std::shared_ptr<const Fragment> head, bool is_doubtful, bool is_half);

  // Takes a further line.
  void add(std::shared_ptr<const Fragment> part);

  // Its first line.
  const Fragment& head() const { return *parts_[0]; }
  const Fragment& last_part() const { return *parts_.back(); }
  const std::vector<std::shared_ptr<const Fragment>>& parts() const { return parts_; }
  bool is_doubtful() const { return is_doubtful_; }
  bool is_half() const { return is_half_; }
  // Whether its first line is a title with a tag, and no other line was added.
  bool awaits_description() const { return awaits_description_; }
  void await_description() { awaits_description_ = true; }
  // Whether its first line is a title, and the next ones say what it means.
  bool is_described() const { return is_described_; }
  bool has_words() const { return has_words_; }
  // The last number of a list inside it, or 0.
  int nested_number() const { return nested_number_; }

  // Whether it holds a title and perhaps a tag, and nothing else.
  bool is_only_title() const;
  // Whether its text so far ends with a full stop or its like.
  bool is_ended() const;
  // How many tags its text holds.
  size_t num_tags() const;
  // The first part that holds a tag; the number of parts where none does.
  size_t first_tagged_part() const;
  // The title that its first line is; empty where it is none.
  Text title() const;
  // Whether a fragment may say what the title means.
  bool can_be_described_by(const Fragment& fragment) const;
  // Whether a fragment may go on with the sentence of a line without mark.
  bool leaves_open(const Fragment& fragment, bool is_after_blank) const;
  // Whether the item's sentence ends before a tag in one of its parts.
  bool is_complete_before(size_t index, const Tag& tag) const;
  // The text of a part, without the number of the item.
  std::u32string text_of(size_t index) const;
  // The text of a part before a tag, without a dash between them, and without the same tag at its start.
  std::u32string text_before(size_t index, const Tag& tag) const;
  // The text of a part after a tag; without the colon between them where nothing stands before the tag.
  std::u32string text_after(size_t index, const Tag& tag) const;
  // The texts of all parts.
  std::vector<std::u32string> texts() const;

 private:
  // Where the text of a part begins: in the first after the number, in a description after the bullet.
  size_t begin_of(size_t index) const;

  std::vector<std::shared_ptr<const Fragment>> parts_;
  bool is_doubtful_;
  bool is_half_;
  bool awaits_description_ = false;
  bool is_described_ = false;
  bool has_words_;
  int nested_number_ = 0;
};

}  // namespace rubricrm::rubric
