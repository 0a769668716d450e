// Lines that are no items: headings that name a kind, other headings, titles of items, ruled lines.
#pragma once

#include <optional>

#include "rubric/characters.h"
#include "rubric/mark.h"

namespace rubricrm::rubric {

// A line that names a kind; adorned where mark-up, a number, a colon or a count shows that it is a heading.
struct Heading {
  Kind kind;
  bool is_adorned;
};

// The heading that a line is: `### Hard Rules (3)`, `**Principles**`, `II. Principles:` or `Hard Rules`.
std::optional<Heading> read_heading(Text text, const Mark& mark);
// Whether the line is a heading of any wording.
bool is_markdown_heading(Text text);
// Whether a line without mark and tag is set as the heading of a section: a Markdown heading, a line all in bold, a few
// words before a colon or after an ordinal such as "II.".
bool is_section(Text text);
// Whether the words of an item's first line may be the title of what follows: a few words that are no sentence.
bool is_title(Text words, Text line);
// Whether a title is set as one: its line is a Markdown heading, or all of it is bold.
bool is_set_title(Text words, Text line);
// Whether a set title ends with its line; the words of a Markdown heading may go on in the next line.
bool is_title_of(Text words, Text line, Text following);
// Whether a line in parentheses, or after a label such as "Reason:", is about an item and no part of it.
bool is_remark(Text text);
// Whether the line is a rule across the page, or one of a table.
bool is_ruled(Text text);

}  // namespace rubricrm::rubric
