// The tags that say which kind an item is: `[Hard Rule]`, `[Principle]`, and what models write in their place.
#pragma once

#include <vector>

#include "rubric/characters.h"
#include "rubric/criterion.h"

namespace rubricrm::rubric {

// A tag in a line: where it stands with its mark-up, how it was written, whether it closes mark-up of the text.
struct Tag {
  size_t start;
  size_t end;
  Kind kind;
  Text written;  // part of the line's text
  bool is_unbalanced;

  // Whether it is written as the validators want it; a line may wrap inside.
  bool is_exact() const;
  // Whether it is the same tag of the same line.
  bool operator==(const Tag& other) const { return start == other.start && end == other.end; }
};

// The kind whose name a pattern found.
Kind kind_of(const Match& match);
// Whether the name of a kind may be in a text, which is quick to tell of most lines.
bool may_name_kind(Text text);
// The tags of a line from `start`, the end of its mark, on. A tag in quotes is text that speaks about tags.
std::vector<Tag> find_tags(Text text, size_t start);
// Whether nothing but punctuation follows the tag.
bool is_last(Text text, const Tag& tag);
// Whether white space alone stands before the tag, and nothing after it.
bool is_bare(Text text, const Tag& tag);
// The end of a tag that stands at a position, with the punctuation after it; the position where none does.
size_t skip_tag(Text text, size_t start);
// Whether the text at a position opens as every criterion should, after a tag if one stands there.
bool says_response(Text text, size_t start = 0);
// Whether a tag starts at the end of one line and ends at the start of the next.
bool is_tag_split(Text before, Text after);
// Whether the line ends inside what may be a tag.
bool has_open_bracket(Text text);
// The text without the start of a tag at its end.
Text without_cut_tag(Text text);

}  // namespace rubricrm::rubric
