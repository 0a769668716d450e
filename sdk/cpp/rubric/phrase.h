// What sentences look like: how they end, and the two words that open a criterion.
#pragma once

#include "rubric/characters.h"

namespace rubricrm::rubric {

// Whether "The response" stands at a position, in mark-up or not.
bool opens_response(Text text, size_t start = 0);
// Whether the text starts with "The response" and no mark-up.
bool opens_as_response(Text text);
// Whether the text, or its part before `end`, ends with a full stop or its like, quotes and brackets aside.
bool ends_sentence(Text text, size_t end = Text::npos);
// Whether the text ends with something in brackets after a whole sentence.
bool ends_with_unknown_tag(Text text);

}  // namespace rubricrm::rubric
