// Where a line that holds several items falls apart.
#pragma once

#include <vector>

#include "rubric/mark.h"
#include "rubric/tag.h"

namespace rubricrm::rubric {

// A part of a line that may be one item: where it starts, its text, and the mark and the tags in it.
struct Piece {
  size_t start;
  Text text;  // part of the line's
  Mark mark;
  std::vector<Tag> tags;
};

// Cuts a line where items start. `last` is the number of the item before it. The pieces are in order; the first starts
// at 0, whether or not an item starts there. The cost is linear.
//
// After a tag a number starts an item, and so does "The response", and any sentence that has a tag of its own: two
// sentences with two tags are two items. Without a tag an item takes the very next number, and "The response" or a tag
// after it: "needs version 2. The response ..." goes on.
std::vector<Piece> split_items(Text text, int last);

// Whether two items may be left in one: a number after one of its tags, or two tags and "The response" again.
bool may_be_joined(const Piece& piece);

}  // namespace rubricrm::rubric
