// Ends a text at the first of several strings, while it is still being written.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace rubricrm {

// Ends a text before the stop string that begins first, whatever the pieces in which the text arrives; of several that
// begin there, the longest counts.
//
// The end of the text is held back while it may be the beginning of a stop string. A complete one waits too, while
// another that begins before it may still become complete. Pieces and strings are whole characters in UTF-8, so that
// no piece that is returned cuts one.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Takes more text, returns what is certain not to belong to a stop string. After a find, nothing follows.
  std::string push(const std::string& piece);
  // What was held back: the text ended. A complete stop string that waited in it is then found.
  std::string finish();
  // The stop string that ended the text.
  const std::optional<std::string>& found() const { return found_; }

 private:
  std::string split(std::string text, size_t certain);

  std::vector<std::string> strings_;
  std::string held_;
  std::optional<std::string> found_;
};

}  // namespace rubricrm
