#include "text/nfc.h"

#include <algorithm>
#include <vector>

#include "text/unicode.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

// Hangul: a syllable is a leading consonant, a vowel, and perhaps a trailing consonant, by arithmetic.
constexpr uint32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr uint32_t kNumLeads = 19, kNumVowels = 21, kNumTrails = 28;

constexpr char32_t kNone = 0;

struct Mark {
  char32_t character;
  uint32_t combining_class;
};

uint32_t combining_class(char32_t character) {
  const auto* end = kCombiningRanges + kNumCombiningRanges;
  const auto* range = std::lower_bound(kCombiningRanges, end, character,
                                       [](const CombiningRange& r, char32_t c) { return r.last < c; });
  return range != end && range->first <= character ? range->combining_class : 0;
}

void decompose(char32_t character, std::vector<Mark>& out) {
  if (const uint32_t syllable = character - kSyllables; syllable < kNumLeads * kNumVowels * kNumTrails) {
    out.push_back({kLeads + syllable / (kNumVowels * kNumTrails), 0});
    out.push_back({kVowels + syllable / kNumTrails % kNumVowels, 0});
    if (syllable % kNumTrails != 0) out.push_back({kTrails + syllable % kNumTrails, 0});
    return;
  }
  const auto* end = kDecompositions + kNumDecompositions;
  const auto* step = std::lower_bound(kDecompositions, end, character,
                                      [](const Decomposition& d, char32_t c) { return d.character < c; });
  if (step == end || step->character != character) {
    out.push_back({character, combining_class(character)});
    return;
  }
  decompose(step->first, out);
  if (step->second != 0) decompose(step->second, out);
}

// The character that two make, or kNone.
char32_t compose(char32_t first, char32_t second) {
  if (first - kLeads < kNumLeads && second - kVowels < kNumVowels) {
    return kSyllables + ((first - kLeads) * kNumVowels + (second - kVowels)) * kNumTrails;
  }
  // kTrails itself is no consonant: it is one before the first.
  if (first - kSyllables < kNumLeads * kNumVowels * kNumTrails && (first - kSyllables) % kNumTrails == 0 &&
      second - kTrails - 1 < kNumTrails - 1) {
    return first + (second - kTrails);
  }
  const auto* end = kCompositions + kNumCompositions;
  const auto* pair = std::lower_bound(kCompositions, end, Composition{first, second, 0},
                                      [](const Composition& a, const Composition& b) {
                                        return a.first != b.first ? a.first < b.first : a.second < b.second;
                                      });
  return pair != end && pair->first == first && pair->second == second ? pair->character : kNone;
}

// Sorts marks by class, between characters of class 0.
void reorder(std::vector<Mark>& marks) {
  const auto is_base = [](const Mark& mark) { return mark.combining_class == 0; };
  for (auto at = marks.begin(); at != marks.end();) {
    const auto base = std::find_if(at, marks.end(), is_base);
    std::stable_sort(at, base, [](const Mark& a, const Mark& b) { return a.combining_class < b.combining_class; });
    at = std::find_if_not(base, marks.end(), is_base);
  }
}

// Joins each character to the last of class 0 before it, unless one of its own class or a higher one stands between.
void recompose(std::vector<Mark>& marks) {
  size_t count = 0, base = 0;
  bool has_base = false;
  for (const Mark mark : marks) {
    const auto is_blocked = [&] {
      return count != base + 1 && marks[count - 1].combining_class >= mark.combining_class;
    };
    if (has_base && !is_blocked()) {
      if (const char32_t composed = compose(marks[base].character, mark.character); composed != kNone) {
        marks[base].character = composed;
        continue;
      }
    }
    if (mark.combining_class == 0) {
      base = count;
      has_base = true;
    }
    marks[count++] = mark;
  }
  marks.resize(count);
}

}  // namespace

size_t normalization_run(std::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  next_character(at);
  while (at != end) {
    const char* after = at;
    if (!(character_classes(next_character(after)) & CharacterClass::CONTINUES)) break;
    at = after;
  }
  return static_cast<size_t>(at - text.data());
}

std::string_view normalize_nfc(std::string_view text, std::string& storage) {
  const char* const end = text.data() + text.size();
  const char* copied = text.data();  // what lies before is in the storage
  const char* run = text.data();     // where the run of the character before `at` begins
  std::vector<Mark> marks;
  storage.clear();
  for (const char* at = text.data(); at != end;) {
    const char* const begin = at;
    if (static_cast<unsigned char>(*at) < 0x80) {  // begins a run, and stays what it is
      run = at++;
      continue;
    }
    const uint8_t classes = character_classes(next_character(at));
    if (!(classes & CharacterClass::CONTINUES)) run = begin;
    if (!(classes & (CharacterClass::CONTINUES | CharacterClass::CHANGES))) continue;
    storage.append(copied, run);
    copied = run + normalization_run({run, static_cast<size_t>(end - run)});
    marks.clear();
    for (const char* part = run; part != copied;) decompose(next_character(part), marks);
    reorder(marks);
    recompose(marks);
    for (const Mark& mark : marks) append_character(storage, mark.character);
    at = run = copied;
  }
  if (copied == text.data()) return text;
  storage.append(copied, end);
  return storage;
}

}  // namespace rubricrm
