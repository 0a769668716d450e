#include "generation/stop_strings.h"

#include <algorithm>
#include <utility>

namespace rubricrm {
namespace {

// The length of the longest end of `text` that begins `string`, and is not all of it.
size_t overlap(const std::string& text, const std::string& string) {
  size_t length = std::min(text.size(), string.size() - 1);
  while (length > 0 && text.compare(text.size() - length, length, string, 0, length) != 0) --length;
  return length;
}

}  // namespace

std::string StopStrings::push(const std::string& piece) {
  if (found_) return "";
  std::string text = std::exchange(held_, {}) + piece;
  size_t longest = 0;
  for (const std::string& string : strings_) longest = std::max(longest, overlap(text, string));
  const size_t certain = text.size() - longest;
  return split(std::move(text), certain);
}

std::string StopStrings::finish() {
  std::string text = std::exchange(held_, {});
  const size_t certain = text.size();
  return split(std::move(text), certain);
}

// The text up to a stop string that begins at `certain` at the latest, else all before `certain`; the rest is held.
std::string StopStrings::split(std::string text, size_t certain) {
  size_t at = std::string::npos;
  const std::string* first = nullptr;
  for (const std::string& string : strings_) {
    const size_t found = text.find(string);
    if (found < at || (found == at && first != nullptr && string.size() > first->size())) {
      at = found;
      first = &string;
    }
  }
  if (first != nullptr && at <= certain) {
    found_ = *first;
    return text.substr(0, at);
  }
  held_ = text.substr(certain);
  text.resize(certain);
  return text;
}

}  // namespace rubricrm
