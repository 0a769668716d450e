// Byte-level BPE: a word's bytes are its first tokens, of which pairs merge, the lowest rank first.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/merge_table.h"
#include "runtime/token_ids.h"

namespace rubricrm {

// The token of each byte; -1: the vocabulary has none, and the byte is dropped.
using ByteIds = std::array<int32_t, 256>;

// Memory of merges, kept from word to word.
class BytePairEncoding {
 public:
  // Appends the tokens of a word to `ids`: n log n in its length. The word has fewer than 2^31 bytes.
  void append(std::string_view word, const ByteIds& byte_ids, const MergeTable& merges, TokenIds& ids);

 private:
  // A token of the word, until it is merged into the one before it.
  struct Symbol {
    int32_t id;              // -1: merged
    int32_t previous, next;  // -1: there is none
  };
  // Two neighbors that may merge, unless one of them merged otherwise before.
  struct Candidate {
    int32_t rank, left, id;
    // Of equal rank the leftmost comes first.
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };

  void consider(int32_t left, const MergeTable& merges);
  void merge(const Candidate& candidate, const MergeTable& merges);

  std::vector<Symbol> symbols_;
  std::vector<Candidate> candidates_;  // a heap
};

}  // namespace rubricrm
