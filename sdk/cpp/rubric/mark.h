// What starts an item: a number in one of many styles, a bullet, or nothing.
#pragma once

#include <optional>

#include "rubric/characters.h"
#include "rubric/criterion.h"

namespace rubricrm::rubric {

// How an item is marked. A list inside an item has another style than the items, or restarts their numbers.
enum class Style { kNone, kBullet, kDigits, kLetters, kEnclosed, kNamed, kDecimal };

struct Mark {
  Style style = Style::kNone;  // kNone where the line has no mark
  std::optional<int> number;   // none for a bullet, for "1.2" and where there is no mark
  size_t end = 0;              // where the item's text starts
  bool is_exact = false;       // whether it is `1. `, as the validators want it
  bool opens_markup = false;   // whether mark-up starts in it and goes on in the text
  std::optional<Kind> kind;    // the kind that it names, as "Hard Rule 1:" does

  // Whether there is neither a number nor a bullet.
  bool is_none() const { return style == Style::kNone; }
  // Whether it marks an item without numbering it.
  bool is_bullet() const { return style == Style::kBullet; }
};

// The mark at a position; `expected` is the number that would follow the previous one.
Mark read_mark(Text text, int expected, size_t start = 0);

}  // namespace rubricrm::rubric
