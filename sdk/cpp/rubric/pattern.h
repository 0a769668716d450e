// Regular expressions that mean what they mean to Python's `re`: programs that make_pattern_tables.py wrote, and the
// machine that runs them. It backtracks as `re` does, so that a pattern which takes linear time there takes it here.
// Nothing is compiled at run time, and nothing is shared that changes: any thread may match at any time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "rubric/codes.h"

namespace rubricrm::rubric {

// Code points. Indexes and lengths count them, as Python's do.
using Text = std::u32string_view;

struct CharacterRange {
  uint32_t first;
  uint32_t last;
};

// A set of characters. Tables of the library hold the ranges, sorted.
struct CharacterClass {
  uint64_t ascii[2];
  const CharacterRange* ranges;
  uint32_t num_ranges;

  bool holds(char32_t character) const {
    if (character < 128) return ascii[character / 64] >> (character % 64) & 1;
    return holds_beyond_ascii(character);
  }

 private:
  bool holds_beyond_ascii(char32_t character) const;
};

// What a pattern found. It refers to the text, which must outlive it.
class Match {
 public:
  size_t start(Group group = Group::kWhole) const { return bounds_[2 * static_cast<int>(group)]; }
  size_t end(Group group = Group::kWhole) const { return bounds_[2 * static_cast<int>(group) + 1]; }
  // Whether the group took part in the match; it may be empty.
  bool has(Group group) const { return bounds_[2 * static_cast<int>(group) + 1] != kNowhere; }
  // The text of a group; empty where it took no part.
  Text operator[](Group group) const {
    return has(group) ? text_.substr(start(group), end(group) - start(group)) : Text();
  }
  Text text() const { return (*this)[Group::kWhole]; }

 private:
  friend class Pattern;
  static constexpr uint32_t kNowhere = UINT32_MAX;
  explicit Match(Text text) : text_(text) { bounds_.fill(kNowhere); }

  Text text_;
  std::array<uint32_t, 2 * kNumGroups> bounds_;
};

// The methods of `re.Pattern`: `start` is where to begin, while what stands before it can still be looked back at;
// `end` is where the text ends for the pattern. Both may lie beyond the text's end. A text has fewer than 2^31
// characters.
class Pattern {
 public:
  // `first` holds the characters that a match may start with; null where that may be any, or none.
  constexpr Pattern(const char* name, const uint16_t* program, const CharacterClass* classes,
                    const CharacterClass* first)
      : name_(name), program_(program), classes_(classes), first_(first) {}

  std::optional<Match> match(Text text, size_t start = 0, size_t end = Text::npos) const;
  std::optional<Match> full_match(Text text, size_t start = 0, size_t end = Text::npos) const;
  std::optional<Match> search(Text text, size_t start = 0, size_t end = Text::npos) const;
  // The name in Python: "tag._EARLY_TAG".
  const char* name() const { return name_; }

 private:
  std::optional<Match> at(Text text, size_t start, bool is_full) const;
  bool may_start(Text text, size_t start) const;

  const char* name_;
  const uint16_t* program_;
  const CharacterClass* classes_;
  const CharacterClass* first_;
};

}  // namespace rubricrm::rubric
