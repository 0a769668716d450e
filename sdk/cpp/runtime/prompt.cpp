#include "runtime/prompt.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

// First characters that merge with the text before them in different ways: a token that is the same under all of them
// does not depend on a value. A line break is the one that reaches furthest back in byte-level BPE.
constexpr const char* kProbes[] = {"\n", "\r\n", " ",  "  \n",   "a",      "A",      "1",
                                   ".",  "?",    "'s", "\u00e9", "\u0301", "\u4e2d", "\U0001f642"};

void append(std::vector<Segment>& segments, std::vector<Segment> more) {
  std::move(more.begin(), more.end(), std::back_inserter(segments));
}

// Whether text is nothing but what Python's str.isspace takes for white space: \s, and four separators of ASCII.
bool is_blank(std::string_view text) {
  while (!text.empty()) {
    const Utf8Start start = utf8_start(text);
    if (start.kind != Utf8Start::WHOLE) return false;
    const char* at = text.data();
    const char32_t character = next_character(at);
    if (!(character_classes(character) & CharacterClass::SPACE) && !(character >= 0x1C && character <= 0x1F))
      return false;
    text.remove_prefix(static_cast<size_t>(start.length));
  }
  return true;
}

using Names = std::vector<std::string>;

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

Names sorted(Names names) {
  std::sort(names.begin(), names.end());
  return names;
}

struct Placeholder {
  size_t start;
  std::string field, text;
};

std::vector<Placeholder> placeholders_of(const PromptFacts& facts) {
  std::vector<Placeholder> found;
  for (const auto& [field, placeholder] : facts.fields) {
    const size_t start = placeholder.empty() ? std::string::npos : facts.template_text.find(placeholder);
    if (start == std::string::npos || facts.template_text.find(placeholder, start + 1) != std::string::npos) {
      throw Error(Code::BUNDLE_INVALID, "\"template\" of the prompt from " + facts.template_source +
                                            " does not hold '" + placeholder +
                                            "' exactly once. Export the bundle again.");
    }
    found.push_back({start, field, placeholder});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.start < b.start; });
  return found;
}

}  // namespace

Prompt::Prompt(std::string name, const PromptFacts& facts, const ChatFacts& chat, const Tokenizer& tokenizer)
    : name_(std::move(name)), tokenizer_(tokenizer) {
  check_fields(facts);
  append(before_, tokenizer.split_control(chat.opening));
  append(before_, tokenizer.split_control(chat.user.before));
  std::vector<Segment>* last = &before_;
  std::string* last_text = &text_before_;
  size_t end = 0;
  const std::vector<Placeholder> placeholders = placeholders_of(facts);
  places_.reserve(placeholders.size());
  const auto take = [&](size_t until) {
    *last_text = facts.template_text.substr(end, until - end);
    append(*last, tokenizer.split_control(*last_text));
  };
  for (const Placeholder& placeholder : placeholders) {
    take(placeholder.start);
    end = placeholder.start + placeholder.text.size();
    places_.push_back({placeholder.field, {}, {}});
    last = &places_.back().after;
    last_text = &places_.back().text_after;
  }
  take(facts.template_text.size());
  append(*last, tokenizer.split_control(chat.user.after));
  append(*last, tokenizer.split_control(chat.generation));
}

void Prompt::check_fields(const PromptFacts& facts) const {
  Names fields;
  for (const auto& [field, placeholder] : facts.fields) fields.push_back(field);
  if (name_ != kRubricPrompt || fields == Names{kRequestField}) return;
  throw Error(Code::BUNDLE_INVALID, "\"fields\" of the prompt from " + facts.template_source + " are " +
                                        joined(fields) + ", expected " + kRequestField +
                                        " alone. Export the bundle again.");
}

TokenIds Prompt::encode(const FieldValues& values) const { return encode_in_order(in_order(values)); }

std::string Prompt::render(const FieldValues& values) const {
  const std::vector<std::string_view> ordered = in_order(values);
  std::string text = text_before_;
  for (size_t i = 0; i < places_.size(); ++i) text.append(ordered[i]).append(places_[i].text_after);
  return text;
}

TokenIds Prompt::fixed_prefix() const {
  const auto with = [this](const char* probe) {
    return encode_in_order(std::vector<std::string_view>(places_.size(), probe));
  };
  TokenIds prefix = with(kProbes[0]);
  for (const char* probe : kProbes) prefix.resize(common_prefix(prefix, with(probe)));
  return prefix;
}

std::vector<std::string_view> Prompt::in_order(const FieldValues& values) const {
  Names given, wanted;
  for (const auto& [field, value] : values) given.push_back(field);
  for (const Place& place : places_) wanted.push_back(place.field);
  if (sorted(given) != sorted(wanted)) {
    throw Error(Code::OPTION_INVALID, "the fields of the prompt " + name_ + ": got " + joined(sorted(given)) +
                                          ", expected " + joined(sorted(wanted)) + ", each once.");
  }
  std::vector<std::string_view> ordered;
  for (const std::string& field : wanted) {
    const auto index = std::find(given.begin(), given.end(), field) - given.begin();
    const std::string& value = values[static_cast<size_t>(index)].second;
    check_text(value, field);
    ordered.push_back(value);
  }
  return ordered;
}

TokenIds Prompt::encode_in_order(const std::vector<std::string_view>& values) const {
  std::vector<Segment> segments = before_;
  for (size_t i = 0; i < places_.size(); ++i) {
    segments.emplace_back(std::string(values[i]));
    append(segments, places_[i].after);
  }
  return tokenizer_.encode_segments(segments);
}

size_t common_prefix(const TokenIds& left, const TokenIds& right) {
  const size_t length = std::min(left.size(), right.size());
  return static_cast<size_t>(std::mismatch(left.begin(), left.begin() + length, right.begin()).first - left.begin());
}

void check_text(std::string_view text, const std::string& name) {
  const auto refuse_text = [&name](const std::string& what) { throw Error(Code::REQUEST_INVALID, name + ": " + what); };
  if (is_blank(text)) refuse_text("is empty or only whitespace. Say what the response should do.");
  if (const size_t at = text.find('\0'); at != std::string_view::npos) {
    refuse_text("holds NUL at character " + std::to_string(count_characters(text.substr(0, at))) +
                ". Remove it: it is binary data, not text.");
  }
  if (const size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
    refuse_text("holds " + describe_invalid_utf8(text, at) +
                ", which UTF-8 cannot express. Replace it by U+FFFD, or remove it.");
  }
}

}  // namespace rubricrm
