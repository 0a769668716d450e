// The tokens of words that were seen before.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "runtime/token_ids.h"

namespace rubricrm {

// Holds 16,384 words in 1 MB, the last one of each place in the table. Words of more than 24 bytes or 9 tokens are not
// kept. For one thread.
class WordCache {
 public:
  // A word as the cache compares it.
  struct Key {
    std::array<uint64_t, 3> bytes{};
    uint8_t length = 0;
  };

  static bool takes(std::string_view word) { return word.size() <= sizeof(Key::bytes); }
  // Only for words that it takes.
  static Key key(std::string_view word);

  // Appends the tokens of a word to `ids`; false if they are not known.
  bool append(const Key& key, TokenIds& ids) const;
  // Keeps the tokens of a word.
  void keep(const Key& key, const int32_t* ids, size_t count);

 private:
  static constexpr size_t kMaxTokens = 9;
  static constexpr int kBits = 14;
  struct Entry {
    Key word;
    uint8_t count = 0;
    std::array<int32_t, kMaxTokens> ids{};
  };

  static size_t place(const Key& key);

  std::vector<Entry> entries_ = std::vector<Entry>(size_t{1} << kBits);
};

inline WordCache::Key WordCache::key(std::string_view word) {
  Key key;
  std::memcpy(key.bytes.data(), word.data(), word.size());
  key.length = static_cast<uint8_t>(word.size());
  return key;
}

inline size_t WordCache::place(const Key& key) {
  uint64_t hash = (key.bytes[0] ^ key.length) * 0x9E3779B97F4A7C15u;
  hash = (hash ^ hash >> 32 ^ key.bytes[1]) * 0xC2B2AE3D27D4EB4Fu;
  hash = (hash ^ hash >> 32 ^ key.bytes[2]) * 0x9E3779B97F4A7C15u;
  return hash >> (64 - kBits);
}

inline bool WordCache::append(const Key& key, TokenIds& ids) const {
  const Entry& entry = entries_[place(key)];
  if (entry.word.length != key.length || entry.word.bytes != key.bytes) return false;
  ids.insert(ids.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
  return true;
}

inline void WordCache::keep(const Key& key, const int32_t* ids, size_t count) {
  if (count > kMaxTokens) return;
  Entry& entry = entries_[place(key)];
  entry.word = key;
  entry.count = static_cast<uint8_t>(count);
  std::memcpy(entry.ids.data(), ids, count * sizeof *ids);
}

}  // namespace rubricrm
