#include "rubric/repetition.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "rubric/characters.h"
#include "rubric/utf8.h"

namespace rubricrm::rubric {
namespace {

// Two equal criteria in a row happen; three, or the same two in the same order again, do not.
constexpr size_t kMostTimes = 2;
// A text in which each word is there so many times, of so many words at least, goes in circles.
constexpr size_t kTimesPerWord = 8;
constexpr size_t kFewestWords = 40;

bool goes_in_circles(Text text) {
  const std::vector<Text> words = split(text);
  if (words.size() < kFewestWords) return false;
  const std::unordered_set<Text> different(words.begin(), words.end());
  return different.size() * kTimesPerWord <= words.size();
}

// Each text by its first place.
std::vector<size_t> first_places(const std::vector<std::u32string>& texts) {
  std::unordered_map<Text, size_t> known;
  std::vector<size_t> places;
  for (size_t place = 0; place < texts.size(); ++place)
    places.push_back(known.emplace(texts[place], place).first->second);
  return places;
}

bool repeats_itself(const std::vector<size_t>& places) {
  std::unordered_map<size_t, size_t> times;
  std::unordered_map<size_t, std::unordered_set<size_t>> followers;
  for (size_t i = 0; i < places.size(); ++i) {
    if (++times[places[i]] > kMostTimes) return true;
    if (i > 0 && !followers[places[i - 1]].insert(places[i]).second) return true;
  }
  return false;
}

}  // namespace

std::optional<Issue> find_repetition(const std::vector<Criterion>& criteria) {
  std::vector<std::u32string> texts;
  for (const Criterion& criterion : criteria) {
    const std::u32string folded = casefold(from_utf8(criterion.text));
    texts.push_back(join(split(folded)));
  }
  const std::vector<size_t> places = first_places(texts);
  if (repeats_itself(places)) {
    size_t num_again = 0, again = places.size();
    for (size_t i = 0; i < places.size(); ++i) {
      if (places[i] == i) continue;
      again = std::min(again, i);
      ++num_again;
    }
    const std::string of_all = std::to_string(num_again) + " of " + std::to_string(texts.size());
    return Issue{"repetition", criteria[again].span.line, of_all + " criteria were written before"};
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    if (goes_in_circles(texts[i])) return Issue{"repetition", criteria[i].span.line, "a criterion goes in circles"};
  }
  return std::nullopt;
}

}  // namespace rubricrm::rubric
