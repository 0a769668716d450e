#include "rubric/phrase.h"

#include <algorithm>

#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

constexpr Text kSentenceEnds = U".!?…。！？｡؟۔।॥։።។";
constexpr Text kSentenceClosers = U"\"'`”’»」』)）]*_~";
constexpr size_t kClosersLookedAt = 16;
constexpr size_t kLongestUnknownTag = 56;

}  // namespace

bool opens_response(Text text, size_t start) { return patterns::phrase::kOpeningWords.match(text, start).has_value(); }

bool opens_as_response(Text text) {
  return !text.empty() && (text[0] == U't' || text[0] == U'T') && opens_response(text);
}

bool ends_sentence(Text text, size_t end) {
  end = std::min(end, text.size());
  const Text tail = strip_end(slice(text, end - std::min(end, kClosersLookedAt), end));
  const Text words = strip_end(strip_end(tail, kSentenceClosers));
  return !words.empty() && contains(kSentenceEnds, words.back());
}

bool ends_with_unknown_tag(Text text) {
  return patterns::phrase::kUnknownTag.search(strip_end(last(text, kLongestUnknownTag))).has_value();
}

}  // namespace rubricrm::rubric
