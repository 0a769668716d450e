// The tokens of a model: each one's text, as tokenizer.json spells it, and its id.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rubricrm {

// Filled by `add`, then closed by `finish`; only then `text` may be asked for. Qwen3's 151,643 tokens take 6 MB.
class Vocabulary {
 public:
  Vocabulary() = default;
  // With room for about so many tokens.
  explicit Vocabulary(size_t expected_tokens);

  // Ids lie below this: far more than any model has, and few enough for a table of them.
  static constexpr int64_t kMaxId = int64_t{1} << 24;

  // Adds a token; of two with the same text the last one counts. 0 <= id < kMaxId.
  void add(std::string_view text, int32_t id);

  // False if two tokens share an id.
  bool finish();

  // Gives back the memory of look-ups by text, which find nothing any more.
  void drop_index() { slots_ = {}; }

  // The id of a text, -1 if there is none.
  int32_t find(std::string_view text) const { return find(text, hash(text)); }
  // The same in two parts, of which the first has the processor fetch what the second reads: for many look-ups in a
  // row.
  uint32_t prepare(std::string_view text) const;
  int32_t find(std::string_view text, uint32_t prepared) const;

  // Whether an id is a token's.
  bool has(int32_t id) const { return id >= 0 && id < end_of_ids() && token_of_id_[static_cast<size_t>(id)] != kEmpty; }
  // The text of an id; empty if it has none.
  std::string_view text(int32_t id) const;

  size_t size() const { return tokens_.size(); }
  // One more than the largest id.
  int32_t end_of_ids() const { return static_cast<int32_t>(token_of_id_.size()); }

 private:
  struct Token {
    uint32_t offset, length;  // in texts_
    int32_t id;
  };
  struct Slot {
    uint32_t hash;
    uint32_t token = kEmpty;
  };
  static constexpr uint32_t kEmpty = UINT32_MAX;

  static uint32_t hash(std::string_view text);
  uint32_t find_slot(std::string_view text, uint32_t hash) const;
  std::string_view text(const Token& token) const {
    return std::string_view(texts_).substr(token.offset, token.length);
  }
  void resize_slots(size_t size);

  std::string texts_;
  std::vector<Token> tokens_;
  std::vector<Slot> slots_;  // open addressing, a power of two
  std::vector<uint32_t> token_of_id_;
};

}  // namespace rubricrm
