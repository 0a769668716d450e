#include "rubric/pattern.h"

#include <algorithm>
#include <vector>

#include "rubric/tables.h"

namespace rubricrm::rubric {
namespace {

// What to do instead, when a way turns out to be wrong.
struct Choice {
  enum Kind : uint16_t {
    kTry,       // go on at `next` from `position`
    kGiveBack,  // a repeat that took characters up to `position`, and `bound` at least: take one fewer
    kTakeMore,  // a repeat that took characters up to `position`, and may go up to `bound`: take one more
    kRestore,   // not a way: `next` is a bound of a group, which was `position`
  };
  Kind kind;
  uint16_t next;
  uint32_t position;
  uint32_t bound;
};

// A stack that needs no memory from the heap while it is small, as it nearly always is.
class Choices {
 public:
  size_t size() const { return size_; }
  void shrink(size_t size) {
    if (size_ > kFew) many_.resize(size > kFew ? size - kFew : 0);
    size_ = size;
  }
  Choice& top() { return size_ > kFew ? many_.back() : few_[size_ - 1]; }
  void push(const Choice& choice) {
    if (size_ < kFew) {
      few_[size_] = choice;
    } else {
      many_.push_back(choice);
    }
    ++size_;
  }

 private:
  static constexpr size_t kFew = 64;
  Choice few_[kFew];
  std::vector<Choice> many_;
  size_t size_ = 0;
};

class Machine {
 public:
  Machine(const uint16_t* program, const CharacterClass* classes, Text text, bool is_full, uint32_t* bounds)
      : program_(program), classes_(classes), text_(text), end_(text.size()), is_full_(is_full), bounds_(bounds) {}

  // Runs from `next` at `position`; true where it is accepted or done, with `position` moved to where that was.
  bool run(uint32_t next, uint32_t* position) {
    const size_t floor = choices_.size();
    next_ = next;
    position_ = *position;
    for (;;) {
      const Outcome outcome = step();
      if (outcome == Outcome::kDone) {
        *position = position_;
        // Groups are never set inside an inner program, so that no choice above the floor is needed any more.
        choices_.shrink(floor);
        return true;
      }
      if (outcome == Outcome::kFailed && !turn_back(floor)) return false;
    }
  }

 private:
  enum class Outcome { kGoesOn, kDone, kFailed };

  static Outcome going_on(bool holds) { return holds ? Outcome::kGoesOn : Outcome::kFailed; }
  Operation operation() const { return static_cast<Operation>(program_[next_]); }
  uint16_t argument(int index) const { return program_[next_ + 1 + index]; }
  bool is_word(uint32_t position) const {
    return text_[position] == U'_' || character_class::kAlphanumeric.holds(text_[position]);
  }

  Outcome step() {
    switch (operation()) {
      case Operation::kAccept:
        if (is_full_ && position_ != end_) return Outcome::kFailed;
        return Outcome::kDone;
      case Operation::kDone:
        return Outcome::kDone;
      case Operation::kCharacter:
        if (position_ == end_ || text_[position_] != argument(0)) return Outcome::kFailed;
        ++position_;
        next_ += 2;
        return Outcome::kGoesOn;
      case Operation::kClass:
        if (position_ == end_ || !classes_[argument(0)].holds(text_[position_])) return Outcome::kFailed;
        ++position_;
        next_ += 2;
        return Outcome::kGoesOn;
      case Operation::kJump:
        next_ = argument(0);
        return Outcome::kGoesOn;
      case Operation::kSplit:
        choices_.push({Choice::kTry, argument(0), position_, 0});
        next_ += 2;
        return Outcome::kGoesOn;
      case Operation::kSave:
        choices_.push({Choice::kRestore, argument(0), bounds_[argument(0)], 0});
        bounds_[argument(0)] = position_;
        next_ += 2;
        return Outcome::kGoesOn;
      case Operation::kRepeat:
      case Operation::kRepeatLazily:
      case Operation::kRepeatPossessively:
        return repeat(operation());
      case Operation::kAtStart:
        return look(position_ == 0);
      case Operation::kAtEnd:
        return look(position_ == end_ || (position_ + 1 == end_ && text_[position_] == U'\n'));
      case Operation::kAtEndOfText:
        return look(position_ == end_);
      case Operation::kAtBoundary:
        return look((position_ > 0 && is_word(position_ - 1)) != (position_ < end_ && is_word(position_)));
      case Operation::kAgain:
        return again(argument(0));
      default:
        return run_inner();
    }
  }

  Outcome look(bool holds) {
    ++next_;
    return going_on(holds);
  }

  Outcome repeat(Operation way) {
    const CharacterClass& taken = classes_[argument(0)];
    const uint32_t room = end_ - position_, least = argument(1);
    const uint32_t most = argument(2) == kNoLimit ? room : std::min<uint32_t>(room, argument(2));
    const uint32_t wanted = way == Operation::kRepeatLazily ? std::min(least, most) : most;
    uint32_t count = 0;
    while (count < wanted && taken.holds(text_[position_ + count])) ++count;
    if (count < least) return Outcome::kFailed;
    next_ += 4;
    const uint16_t next = static_cast<uint16_t>(next_);
    if (way == Operation::kRepeat && count > least) {
      choices_.push({Choice::kGiveBack, next, position_ + count, position_ + least});
    } else if (way == Operation::kRepeatLazily && count < most) {
      choices_.push({Choice::kTakeMore, next, position_ + count, position_ + most});
    }
    position_ += count;
    return Outcome::kGoesOn;
  }

  // The text of a group once more.
  Outcome again(uint16_t group) {
    const uint32_t start = bounds_[2 * group], end = bounds_[2 * group + 1];
    if (end == UINT32_MAX || text_.substr(position_, end - start) != text_.substr(start, end - start)) {
      return Outcome::kFailed;
    }
    position_ += end - start;
    next_ += 2;
    return Outcome::kGoesOn;
  }

  // Operations with a program of their own, which ends with kDone: no choice in it is reconsidered afterwards.
  Outcome run_inner() {
    const Operation way = operation();
    const uint32_t at = next_, position = position_;
    const bool is_loop = way == Operation::kLoopPossessively;
    const bool is_behind = way == Operation::kBehind || way == Operation::kNotBehind;
    const uint32_t num_arguments = is_loop ? 3 : is_behind ? 2 : 1;
    const uint32_t body = at + 1 + num_arguments, after = program_[body - 1];
    uint32_t inner = position;
    bool holds = true;
    if (is_loop) {
      const uint32_t least = program_[at + 1], most = program_[at + 2];
      uint32_t count = 0;
      while ((most == kNoLimit || count < most) && run(body, &inner)) ++count;
      holds = count >= least;
    } else if (is_behind) {
      const uint32_t width = program_[at + 1];
      inner -= width;
      holds = position >= width && run(body, &inner);
    } else {
      holds = run(body, &inner);
    }
    if (way == Operation::kNotAhead || way == Operation::kNotBehind) holds = !holds;
    next_ = after;
    position_ = is_loop || way == Operation::kAtomic ? inner : position;
    return going_on(holds);
  }

  // Takes the last choice the other way; false where none above the floor is left.
  bool turn_back(size_t floor) {
    while (choices_.size() > floor) {
      Choice& choice = choices_.top();
      next_ = choice.next;
      switch (choice.kind) {
        case Choice::kTry:
          position_ = choice.position;
          choices_.shrink(choices_.size() - 1);
          return true;
        case Choice::kGiveBack:
          position_ = --choice.position;
          if (choice.position == choice.bound) choices_.shrink(choices_.size() - 1);
          return true;
        case Choice::kTakeMore:
          // The class is an argument of the operation before `next`.
          if (!classes_[program_[choice.next - 3]].holds(text_[choice.position])) break;
          position_ = ++choice.position;
          if (choice.position == choice.bound) choices_.shrink(choices_.size() - 1);
          return true;
        case Choice::kRestore:
          bounds_[choice.next] = choice.position;
          break;
      }
      choices_.shrink(choices_.size() - 1);
    }
    return false;
  }

  const uint16_t* program_;
  const CharacterClass* classes_;
  Text text_;
  uint32_t end_;
  bool is_full_;
  uint32_t* bounds_;
  uint32_t next_ = 0;
  uint32_t position_ = 0;
  Choices choices_;
};

}  // namespace

bool CharacterClass::holds_beyond_ascii(char32_t character) const {
  const CharacterRange* const end = ranges + num_ranges;
  const CharacterRange* const after =
      std::upper_bound(ranges, end, character, [](char32_t c, const CharacterRange& range) { return c < range.first; });
  return after != ranges && character <= (after - 1)->last;
}

// Cuts a text at its end for a pattern; false where the start lies behind that.
static bool cut(Text* text, size_t* start, size_t end) {
  *start = std::min(*start, text->size());
  *text = text->substr(0, end);
  return *start <= text->size();
}

std::optional<Match> Pattern::at(Text text, size_t start, bool is_full) const {
  std::optional<Match> match(Match{text});
  uint32_t position = static_cast<uint32_t>(start);
  if (!Machine(program_, classes_, text, is_full, match->bounds_.data()).run(0, &position)) return std::nullopt;
  match->bounds_[0] = static_cast<uint32_t>(start);
  match->bounds_[1] = position;
  return match;
}

std::optional<Match> Pattern::match(Text text, size_t start, size_t end) const {
  if (!cut(&text, &start, end) || !may_start(text, start)) return std::nullopt;
  return at(text, start, false);
}

std::optional<Match> Pattern::full_match(Text text, size_t start, size_t end) const {
  if (!cut(&text, &start, end) || !may_start(text, start)) return std::nullopt;
  return at(text, start, true);
}

std::optional<Match> Pattern::search(Text text, size_t start, size_t end) const {
  if (!cut(&text, &start, end)) return std::nullopt;
  for (; start <= text.size(); ++start) {
    if (!may_start(text, start)) continue;
    if (std::optional<Match> match = at(text, start, false)) return match;
  }
  return std::nullopt;
}

bool Pattern::may_start(Text text, size_t start) const {
  return first_ == nullptr || (start < text.size() && first_->holds(text[start]));
}

}  // namespace rubricrm::rubric
