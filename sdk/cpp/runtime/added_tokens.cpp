#include "runtime/added_tokens.h"

#include <algorithm>

#include "text/nfc.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

void add_text(std::string_view text, std::vector<Segment>& segments) {
  if (!text.empty()) segments.emplace_back(std::string(text));
}

// Text in form C, and for its bytes the places in the original where the character of a byte begins and ends. Only the
// first character of a run has such places; ASCII stands nowhere else.
struct Composed {
  std::string text;
  std::vector<size_t> begin, end;
  size_t num_read = 0;  // of the original

  void add_run(std::string_view original) {
    const std::string_view run = original.substr(num_read, normalization_run(original.substr(num_read)));
    const char* first_end = run.data();
    next_character(first_end);
    std::string storage;
    text += normalize_nfc(run, storage);
    begin.resize(text.size(), num_read);
    end.resize(text.size(), num_read + static_cast<size_t>(first_end - run.data()));
    num_read += run.size();
  }
};

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, bool composes)
    : tokens_(std::move(tokens)), composes_(composes) {
  for (const AddedToken& token : tokens_) {
    Starts& starts = token.is_normalized ? normalized_starts_ : starts_;
    starts[static_cast<unsigned char>(token.content[0])].push_back(&token);
    has_normalized_ = has_normalized_ || token.is_normalized;
    by_id_[token.id] = &token;
  }
  for (Starts* starts : {&starts_, &normalized_starts_}) {
    for (auto& bucket : *starts) {
      std::sort(bucket.begin(), bucket.end(),
                [](const auto* a, const auto* b) { return a->content.size() > b->content.size(); });
    }
  }
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

// The longest token that begins the text, null if there is none.
const AddedToken* AddedTokens::token_at(const Starts& starts, std::string_view text) {
  for (const AddedToken* token : starts[static_cast<unsigned char>(text[0])]) {
    if (text.substr(0, token->content.size()) == token->content) return token;
  }
  return nullptr;
}

// Splits a text at the tokens of `starts`: `take_text` gets what lies before a token at [begin, end), and after the
// last.
template <typename TakeText>
void AddedTokens::split_at(const Starts& starts, std::string_view text, std::vector<Segment>& segments,
                           TakeText take_text) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = token_at(starts, text.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    take_text(begin, at);
    segments.emplace_back(token->id);
    at += token->content.size();
    begin = at;
  }
  take_text(begin, text.size());
}

std::vector<Segment> AddedTokens::split(std::string_view text) const {
  std::vector<Segment> segments;
  split_at(starts_, text, segments, [&](size_t begin, size_t end) {
    const std::string_view between = text.substr(begin, end - begin);
    if (composes_) return split_composed(between, segments);
    split_at(normalized_starts_, between, segments,
             [&](size_t from, size_t to) { add_text(between.substr(from, to - from), segments); });
  });
  return segments;
}

void AddedTokens::split_composed(std::string_view text, std::vector<Segment>& segments) const {
  if (!has_normalized_) return add_text(text, segments);
  Composed composed;
  while (composed.num_read < text.size()) composed.add_run(text);
  split_at(normalized_starts_, composed.text, segments, [&](size_t from, size_t to) {
    // The text itself, not its form C, is what `split` gives.
    const size_t begin = from == 0 ? 0 : composed.end[from - 1];
    const size_t end = to == composed.text.size() ? text.size() : composed.begin[to];
    add_text(text.substr(begin, end - begin), segments);
  });
}

}  // namespace rubricrm
