#include "runtime/tokenizer.h"

#include <algorithm>

#include "error.h"
#include "runtime/byte_alphabet.h"
#include "runtime/tokenizer_file.h"
#include "runtime/word_encoder.h"
#include "text/nfc.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 30;

// Refuses text that is no UTF-8.
void check_utf8(std::string_view text) {
  const size_t invalid = find_invalid_utf8(text);
  if (invalid == std::string_view::npos) return;
  throw Error(Code::REQUEST_INVALID,
              "the text holds " + describe_invalid_utf8(text, invalid) +
                  ", expected characters that UTF-8 can hold. Decode the text as UTF-8 again, or "
                  "remove the character.");
}

// A character for a message, as Python's repr shows the characters that vocabularies lack.
std::string shown(std::string_view character) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(character[0]);
  if (byte >= 0x20 && byte != 0x7F) return "'" + std::string(character) + "'";
  return std::string("'\\x") + kDigits[byte >> 4] + kDigits[byte & 15] + "'";
}

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerFile opened) : file(std::move(opened)), encoders(file) {
    spells_all = std::find(file.byte_ids.begin(), file.byte_ids.end(), -1) == file.byte_ids.end();
  }

  // Refuses what the vocabulary would drop without a word. For valid UTF-8.
  void check_spelling(std::string_view text) const {
    if (spells_all) return;
    const auto lacking =
        std::find_if(text.begin(), text.end(), [this](unsigned char byte) { return file.byte_ids[byte] < 0; });
    if (lacking == text.end()) return;
    auto at = static_cast<size_t>(lacking - text.begin());
    while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    const std::string_view character = text.substr(at, static_cast<size_t>(utf8_start(text.substr(at)).length));
    throw Error(Code::REQUEST_INVALID, "the text holds " + shown(character) + " at character " +
                                           std::to_string(count_characters(text.substr(0, at))) +
                                           ", for which this model's vocabulary has no token. Remove the character.");
  }

  const TokenizerFile file;
  WordEncoderPool encoders;
  bool spells_all;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_file(const std::string& path) {
  return Tokenizer(std::make_unique<State>(read_tokenizer_file(path)));
}

Tokenizer Tokenizer::from_contents(std::string_view contents, const std::string& path) {
  return Tokenizer(std::make_unique<State>(parse_tokenizer_file(contents, path)));
}

int32_t Tokenizer::num_tokens() const { return state_->file.num_tokens; }

bool Tokenizer::is_special(int32_t token_id) const {
  const AddedToken* const token = state_->file.added.find(token_id);
  return token != nullptr && token->is_special;
}

TokenIds Tokenizer::encode(std::string_view text) const {
  if (text.size() > kMaxBytes) {
    throw Error(Code::REQUEST_INVALID, "the text has " + std::to_string(text.size()) + " bytes, expected at most " +
                                           std::to_string(kMaxBytes) + ". Shorten it.");
  }
  check_utf8(text);
  state_->check_spelling(text);
  TokenIds ids;
  std::string composed;
  if (state_->file.composes) text = normalize_nfc(text, composed);
  std::unique_ptr<WordEncoder> encoder = state_->encoders.take();
  state_->file.pre_tokenizer.split(text, [&](std::string_view word) { encoder->append(word, ids); });
  state_->encoders.give_back(std::move(encoder));
  return ids;
}

std::vector<Segment> Tokenizer::split_control(std::string_view text) const {
  check_utf8(text);
  return state_->file.added.split(text);
}

TokenIds Tokenizer::encode_segments(const std::vector<Segment>& segments) const {
  TokenIds ids;
  std::string joined;
  const auto add_joined = [&] {
    const TokenIds added = encode(joined);
    ids.insert(ids.end(), added.begin(), added.end());
    joined.clear();
  };
  for (const Segment& segment : segments) {
    if (const auto* text = std::get_if<std::string>(&segment)) {
      check_utf8(*text);
      joined += *text;
    } else {
      add_joined();
      ids.push_back(std::get<int32_t>(segment));
    }
  }
  add_joined();
  return ids;
}

std::string Tokenizer::token_bytes(int32_t token_id) const {
  const AddedToken* const token = state_->file.added.find(token_id);
  return token != nullptr ? token->content : bytes_of(state_->file.vocabulary.text(token_id));
}

std::string Tokenizer::text_bytes(int32_t token_id) const {
  return is_special(token_id) ? std::string() : token_bytes(token_id);
}

std::string Tokenizer::decode(const TokenIds& token_ids) const {
  Utf8Stream utf8;
  std::string text;
  for (const int32_t token_id : token_ids) text += utf8.push(text_bytes(token_id));
  return text + utf8.finish();
}

}  // namespace rubricrm
