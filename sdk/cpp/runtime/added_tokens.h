// The tokens beside the model's vocabulary: control tokens, which a template holds and no user's text.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace rubricrm {

struct AddedToken {
  std::string content;  // not empty
  int32_t id;
  bool is_special;     // never part of a completion's text
  bool is_normalized;  // looked for in normalized text: it is ASCII then, or nothing is normalized
};

// Text, or the id of an added token.
using Segment = std::variant<std::string, int32_t>;

class AddedTokens {
 public:
  AddedTokens() = default;
  // `composes`: text is normalized to form C before tokens that are normalized are looked for.
  AddedTokens(std::vector<AddedToken> tokens, bool composes);
  AddedTokens(AddedTokens&&) = default;
  AddedTokens& operator=(AddedTokens&&) = default;

  // The token of an id, null if it is none.
  const AddedToken* find(int32_t id) const;

  // Splits valid UTF-8 at added tokens, the longest first at a position: first at those that are not normalized, then
  // the text between them at those that are. No segment is an empty text.
  std::vector<Segment> split(std::string_view text) const;

 private:
  // Tokens by their first byte, the longest first.
  using Starts = std::array<std::vector<const AddedToken*>, 256>;
  static const AddedToken* token_at(const Starts& starts, std::string_view text);
  template <typename TakeText>
  static void split_at(const Starts& starts, std::string_view text, std::vector<Segment>& segments, TakeText take_text);
  void split_composed(std::string_view text, std::vector<Segment>& segments) const;

  std::vector<AddedToken> tokens_;  // what the pointers below point into
  std::map<int32_t, const AddedToken*> by_id_;
  Starts starts_, normalized_starts_;
  bool has_normalized_ = false;
  bool composes_ = false;
};

}  // namespace rubricrm
