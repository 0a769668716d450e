// Written by make_pattern_tables.py: do not edit. Unicode 14.0.0.
#pragma once

#include <cstdint>

namespace rubricrm::rubric {

// What a word of a pattern's program says; pattern.cpp says what each one means.
enum class Operation : uint16_t {
  kAccept,
  kDone,
  kCharacter,
  kClass,
  kJump,
  kSplit,
  kSave,
  kRepeat,
  kRepeatLazily,
  kRepeatPossessively,
  kAtomic,
  kLoopPossessively,
  kAhead,
  kNotAhead,
  kBehind,
  kNotBehind,
  kAtStart,
  kAtEnd,
  kAtEndOfText,
  kAtBoundary,
  kAgain,
};

constexpr uint16_t kNoLimit = 0xffff;  // of a repeat

// The named groups of all patterns.
enum class Group : uint8_t {
  kWhole,
  kBegun,
  kBracket,
  kCharacters,
  kClosing,
  kControl,
  kGap,
  kHardRule,
  kHash,
  kHeading,
  kItem,
  kJoint,
  kLabel,
  kLead,
  kMarkup,
  kName,
  kNumber,
  kNumeral,
  kOpening,
  kOrdinal,
  kPoint,
  kPrinciple,
  kRole,
  kShut,
  kShut2,
  kTail,
  kText,
  kWords,
};

constexpr int kNumGroups = 28;

}  // namespace rubricrm::rubric
