// What `tokenizers` knows of characters; docs/NATIVE_SPEC.md, "Text", says which version of Unicode each part is.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rubricrm {

// Bits, since a character may be of several classes.
struct CharacterClass {
  enum Bit : uint8_t {
    LETTER = 1,      // \p{L} of a pre-tokenizer's regular expression
    NUMBER = 2,      // \p{N}
    SPACE = 4,       // \s
    NUMERIC = 8,     // what the pre-tokenizer Digits takes for a digit: \p{N} of a later version
    CONTINUES = 16,  // normalization may join it, or its first part, to the character before it, or move it
    CHANGES = 32,    // normalization changes it, even where it stands alone
  };
};

// First to last code point of one canonical combining class; all others have class 0.
struct CombiningRange {
  uint32_t first, last, combining_class;
};

// One step of a canonical decomposition, sorted by `character`; `second` is 0 where it is one character. Without
// Hangul.
struct Decomposition {
  uint32_t character, first, second;
};

// Sorted by `first`, then `second`. Without Hangul.
struct Composition {
  uint32_t first, second, character;
};

// Made by make_tables.py. Two levels: kClassBlocks[kClassIndex[c / 128]][c % 128].
extern const uint8_t kClassIndex[8704];
extern const uint8_t kClassBlocks[][128];
extern const CombiningRange kCombiningRanges[];
extern const Decomposition kDecompositions[];
extern const Composition kCompositions[];
extern const size_t kNumCombiningRanges, kNumDecompositions, kNumCompositions;

// The classes of a code point up to U+10FFFF, as bits.
inline uint8_t character_classes(char32_t character) {
  return kClassBlocks[kClassIndex[character >> 7]][character & 127];
}

}  // namespace rubricrm
