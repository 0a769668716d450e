// Written by make_pattern_tables.py: do not edit. Unicode 14.0.0.
#pragma once

#include "rubric/pattern.h"

namespace rubricrm::rubric {

// Classes of characters by what Python says of them.
namespace character_class {
extern const CharacterClass kSpace;  // str.isspace, and \s
extern const CharacterClass kDecimal;  // str.isdecimal, and \d
extern const CharacterClass kDigit;  // str.isdigit
extern const CharacterClass kAlphanumeric;  // str.isalnum; \w without the low line
extern const CharacterClass kLower;  // str.islower of one character
extern const CharacterClass kUpper;  // str.isupper of one character
extern const CharacterClass kCased;  // characters whose str.upper and str.lower differ
extern const CharacterClass kPrintable;  // str.isprintable
extern const CharacterClass kSymbolOrMath;  // categories So and Sm
extern const CharacterClass kSymbolOrModifier;  // categories So and Sk
extern const CharacterClass kOtherLetter;  // category Lo
}  // namespace character_class

// The patterns of rubricrm.rubric, by module; a name there such as _EARLY_TAG is kEarlyTag here.
namespace patterns {
namespace answer {
extern const Pattern kEvent;
extern const Pattern kMayBeEvent;
extern const Pattern kOwnRole;
extern const Pattern kOtherRole;
extern const Pattern kTurn;
extern const Pattern kGoesOn;
extern const Pattern kWord;
}  // namespace answer
namespace criteria {
extern const Pattern kMarkupAtStart;
extern const Pattern kMarkupAtEnd;
extern const Pattern kAllMarkedUp;
}  // namespace criteria
namespace form {
extern const Pattern kLine;
}  // namespace form
namespace heading {
extern const Pattern kKindHeading;
extern const Pattern kExplained;
extern const Pattern kMarkdownHeading;
extern const Pattern kAllBold;
extern const Pattern kOrdinalTitle;
extern const Pattern kRemark;
extern const Pattern kRuled;
}  // namespace heading
namespace item {
extern const Pattern kBreaksAtStart;
extern const Pattern kBreaksAtEnd;
extern const Pattern kSeparatorBeforeTag;
}  // namespace item
namespace joint {
extern const Pattern kSentenceBreak;
extern const Pattern kLineBreak;
extern const Pattern kItemAhead;
extern const Pattern kBreakAtEnd;
extern const Pattern kMayBeLineBreak;
extern const Pattern kJoint;
extern const Pattern kHardJoint;
extern const Pattern kBareNumber;
extern const Pattern kNumberAfterTag;
extern const Pattern kResponseAgain;
extern const Pattern kHeading;
extern const Pattern kHeadingStart;
}  // namespace joint
namespace mark {
extern const Pattern kDigits;
extern const Pattern kLetters;
extern const Pattern kEnclosed;
extern const Pattern kDecimal;
extern const Pattern kNamed;
extern const Pattern kBullet;
extern const Pattern kNoWords;
extern const Pattern kOtherName;
extern const Pattern kPictures;
}  // namespace mark
namespace numeral {
extern const Pattern kRoman;
}  // namespace numeral
namespace parser {
extern const Pattern kUndecodable;
}  // namespace parser
namespace phrase {
extern const Pattern kOpeningWords;
extern const Pattern kUnknownTag;
}  // namespace phrase
namespace rubric {
extern const Pattern kOpening;
}  // namespace rubric
namespace tag {
extern const Pattern kOtherName;
extern const Pattern kTag;
extern const Pattern kEarlyTag;
extern const Pattern kMarkupBefore;
extern const Pattern kMarkupAfter;
extern const Pattern kLabelBefore;
extern const Pattern kBareAtEnd;
extern const Pattern kBareAtStart;
extern const Pattern kBareInside;
extern const Pattern kOnlyJoints;
extern const Pattern kOpeningQuote;
extern const Pattern kUnclosedBracket;
extern const Pattern kCutTag;
}  // namespace tag
namespace visible {
extern const Pattern kHidden;
extern const Pattern kUnusual;
}  // namespace visible
namespace wrapper {
extern const Pattern kLeading;
extern const Pattern kTrailing;
extern const Pattern kAlone;
}  // namespace wrapper
// Each of them, for tests.
extern const Pattern* const kAll[];
extern const size_t kNumPatterns;
}  // namespace patterns

// str.casefold where it is not the character itself: up to three characters, then zeros.
struct CaseFolding {
  char32_t character;
  char32_t folded[3];
};
extern const CaseFolding kCaseFoldings[];
extern const size_t kNumCaseFoldings;

// A character of a numeral in normal form NFKC and case-folded (then zeros), and the numbers that it stands
// for alone, the likeliest first (then -1).
struct NumeralCharacter {
  char32_t character;
  char32_t folded[4];
  int16_t values[2];
};
extern const NumeralCharacter kNumeralCharacters[];
extern const size_t kNumNumeralCharacters;

// Parts of the form: an item as a regular expression, and the grammar's rules for it.
extern const char kItemRegex[];
extern const char kItemRules[];

}  // namespace rubricrm::rubric
