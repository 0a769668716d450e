#include "rubric/joint.h"

#include <algorithm>
#include <utility>

#include "rubric/phrase.h"
#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

using namespace patterns::joint;  // the names of joint.py

constexpr int kMostJoints = 24;  // between a tag and the next item
constexpr size_t kLongestBreak = 12;
constexpr Text kMarkup = U"*_`~<\"“'‘";
constexpr size_t kHeadingLookedAt = 16;
constexpr size_t kShortestBreak = Text(U"A: 1. B").size();

// A position where an item may start, with what is before it: a tag, the end of a sentence or an escaped break.
struct PossibleStart {
  size_t position;
  size_t end;  // of the item before it, if one starts here
  const Tag* tag = nullptr;
  const Tag* next_tag = nullptr;
  bool is_break = false;
  bool is_sure = false;
};

// Where an item starts, its mark, and where the one before it ends.
struct Start {
  size_t position;
  Mark mark;
  size_t end;
};

// The item that a place is in: its mark, where a tag at its start ends, and the last number so far.
struct Item {
  Mark mark;
  size_t lead;
  int number;

  // Whether a tag opens it, as it will open the next one.
  bool has_lead() const { return lead > mark.end; }
};

Mark no_mark(size_t end) {
  Mark mark;
  mark.end = end;
  return mark;
}

// The end of a piece without the white space and the escaped breaks after it.
size_t end_before_breaks(Text text, size_t start, size_t end) {
  while (start < end) {
    const auto found = kBreakAtEnd.search(text, std::max(start, end - std::min(end, kLongestBreak)), end);
    if (!found && !is_space(text[end - 1])) break;
    end = found ? found->start() : end - 1;
  }
  return end;
}

void add_heading_places(Text text, std::vector<PossibleStart>* places) {
  for (auto match = kHeading.search(text); match; match = kHeading.search(text, match->end())) {
    const size_t floor = match->start() - std::min(match->start(), kHeadingLookedAt);
    const auto before = kHeadingStart.search(slice(text, floor, match->start()));
    const Mark mark = read_mark(text, 1, match->end());
    if (!before || !mark.number || mark.end >= text.size()) continue;
    for (const size_t position : {floor + before->start(Group::kHeading), match->end()}) {
      places->push_back({position, position, nullptr, nullptr, false, true});
    }
  }
}

void add_line_breaks(Text text, std::vector<PossibleStart>* places) {
  if (!kMayBeLineBreak.search(text)) return;
  for (auto match = kLineBreak.search(text); match; match = kLineBreak.search(text, match->end())) {
    if (kItemAhead.match(text, match->end())) {
      places->push_back({match->end(), match->start(), nullptr, nullptr, true, false});
    }
  }
}

// Removes each place that lies inside the last tag which starts before it.
void remove_places_in_tags(const std::vector<Tag>& tags, std::vector<PossibleStart>* places) {
  const Tag* before = nullptr;
  auto tag = tags.begin();
  const auto is_inside = [&](const PossibleStart& place) {
    for (; tag != tags.end() && tag->start < place.position; ++tag) before = &*tag;
    return before != nullptr && place.position < before->end;
  };
  std::vector<PossibleStart> kept;
  for (const PossibleStart& place : *places) {
    if (!is_inside(place)) kept.push_back(place);
  }
  *places = std::move(kept);
}

std::vector<PossibleStart> places_of(Text text, const std::vector<Tag>& tags) {
  std::vector<PossibleStart> places;
  for (size_t i = 0; i < tags.size(); ++i) {
    places.push_back({tags[i].end, tags[i].end, &tags[i], i + 1 < tags.size() ? &tags[i + 1] : nullptr});
  }
  for (auto match = kSentenceBreak.search(text); match; match = kSentenceBreak.search(text, match->end())) {
    places.push_back({match->end(), match->start(Group::kJoint)});
  }
  add_line_breaks(text, &places);
  if (may_name_kind(text)) add_heading_places(text, &places);
  std::stable_sort(places.begin(), places.end(),
                   [](const PossibleStart& a, const PossibleStart& b) { return a.position < b.position; });
  remove_places_in_tags(tags, &places);
  return places;
}

// The mark that the next number is without a point, where it follows a tag.
std::optional<Mark> mark_after_tag(Text text, size_t position, int expected) {
  const auto match = kBareNumber.match(text, position);
  if (!match || decimal_value((*match)[Group::kNumber]) != expected) return std::nullopt;
  Mark mark = no_mark(match->end());
  mark.style = Style::kDigits;
  mark.number = expected;
  return mark;
}

// The position of the next number after a tag, or of the next word.
size_t skip_joint(Text text, size_t position, int expected) {
  for (int i = 0; i < kMostJoints; ++i) {
    const auto joint = kJoint.match(text, position);
    if (!joint) break;
    // "* 2." is a bullet before a number, "**2.**" a number in bold.
    const bool is_set_off = joint->end() < text.size() && is_space(text[joint->end()]);
    const bool is_markup = contains(kMarkup, text[position]) && !is_set_off;
    if (is_markup && read_mark(text, expected, position).number) break;
    position = joint->end();
  }
  return position;
}

// Whether what follows a tag is a sentence with another tag.
bool has_own_tag(Text text, size_t position, const PossibleStart& place, bool is_ended) {
  const Tag* const following = place.next_tag;
  if (following == nullptr || is_blank(slice(text, position, following->start))) return false;
  if (is_ended) return ends_sentence(text, following->start);
  // After half a sentence, a tag and a comma the sentence may go on; after one of these it does not.
  return kHardJoint.search(text, place.tag->end, position).has_value();
}

std::optional<Start> start_after_tag(Text text, const PossibleStart& place, const Item& item) {
  const Tag& tag = *place.tag;
  const size_t position = skip_joint(text, tag.end, item.number + 1);
  if (position == text.size()) return std::nullopt;
  const auto bare = mark_after_tag(text, position, item.number + 1);
  const Mark mark = bare ? *bare : read_mark(text, item.number + 1, position);
  if (mark.number) return Start{position, mark, position};
  if (tag.start <= item.mark.end || tag.end <= item.lead) return std::nullopt;
  const bool is_ended = ends_sentence(text, tag.start);
  if (is_ended && says_response(text, mark.end)) {
    return item.has_lead() ? Start{tag.start, no_mark(tag.start), tag.start} : Start{position, mark, position};
  }
  if (!has_own_tag(text, position, place, is_ended)) return std::nullopt;
  return Start{position, mark, position};
}

std::optional<Start> start_after_break(Text text, const PossibleStart& place, const Item& item) {
  const size_t position = place.position;
  const Mark mark = read_mark(text, item.number + 1, position);
  const bool says = says_response(text, mark.end);
  if (position <= item.lead && item.has_lead()) return std::nullopt;
  const bool is_markdown = position < text.size() && text[position] == U'#';
  const bool is_tagged = skip_tag(text, mark.end) > mark.end;
  const bool opens = says || place.is_break || is_tagged || (item.number == 0 && item.mark.end == 0);
  const bool is_next = mark.number == item.number + 1 && opens;
  const bool is_unnumbered = !mark.number && !mark.is_none() && mark.style == item.mark.style;
  const bool is_alike = says && (item.has_lead() ? is_tagged : is_unnumbered);
  const bool is_start = place.is_sure || (place.is_break && (says || is_markdown)) || is_next || is_alike;
  return is_start ? std::optional<Start>(Start{position, mark, place.end}) : std::nullopt;
}

std::vector<Start> item_starts(Text text, Mark mark, const std::vector<Tag>& tags, int last) {
  std::vector<Start> starts;
  Item item = {mark, skip_tag(text, mark.end), mark.number.value_or(last)};
  const auto is_tag = [&tags](size_t position) {
    const auto tag = std::lower_bound(tags.begin(), tags.end(), position,
                                      [](const Tag& before, size_t at) { return before.start < at; });
    return tag != tags.end() && tag->start == position;
  };
  for (const PossibleStart& place : places_of(text, tags)) {
    if (!item.has_lead() && is_tag(place.position)) continue;  // the tag of the sentence before it
    const auto start = place.tag != nullptr ? start_after_tag(text, place, item) : start_after_break(text, place, item);
    if (!start || start->position <= item.mark.end || start->position >= text.size()) continue;
    starts.push_back(*start);
    item = {start->mark, skip_tag(text, start->mark.end), start->mark.number.value_or(item.number)};
  }
  return starts;
}

}  // namespace

std::vector<Piece> split_items(Text text, int last) {
  const Mark mark = read_mark(text, last + 1);
  std::vector<Tag> tags = find_tags(text, mark.end);
  std::vector<Start> starts;
  if (text.size() >= kShortestBreak) starts = item_starts(text, mark, tags, last);
  std::vector<Piece> pieces;
  if (starts.empty()) {
    pieces.push_back({0, text, mark, std::move(tags)});
    return pieces;
  }
  starts.insert(starts.begin(), Start{0, mark, 0});
  for (size_t i = 0; i < starts.size(); ++i) {
    const Start& start = starts[i];
    const size_t following = i + 1 < starts.size() ? starts[i + 1].end : text.size();
    const Text piece = slice(text, start.position, end_before_breaks(text, start.position, following));
    Mark own = start.mark;
    own.end -= start.position;
    pieces.push_back({start.position, piece, own, find_tags(piece, own.end)});
  }
  return pieces;
}

bool may_be_joined(const Piece& piece) {
  if (piece.tags.size() < 2) return false;
  if (kResponseAgain.search(piece.text, piece.mark.end)) return true;
  return std::any_of(piece.tags.begin(), piece.tags.end() - 1,
                     [&piece](const Tag& tag) { return kNumberAfterTag.match(piece.text, tag.end).has_value(); });
}

}  // namespace rubricrm::rubric
