#include "runtime/prompt.h"

#include <algorithm>

#include "error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace rubricrm {
namespace {

// First characters that merge with the text before them in different ways: a token that is the same under all of them
// does not depend on the request. A line break is the one that reaches furthest back in byte-level BPE.
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

[[noreturn]] void refuse(const std::string& message) { throw Error(Code::OPTION_INVALID, message); }

std::string field_names(const PromptFacts& prompt) {
  std::string names;
  for (const auto& [name, placeholder] : prompt.fields) names += (names.empty() ? "" : ", ") + name;
  return names;
}

}  // namespace

Prompt::Prompt(const PromptFacts& prompt, ChatFacts chat, const Tokenizer& tokenizer)
    : chat_(std::move(chat)), tokenizer_(tokenizer) {
  const auto field = prompt.fields.find(kRequestField);
  if (prompt.fields.size() != 1 || field == prompt.fields.end()) {
    throw Error(Code::BUNDLE_INVALID, "\"fields\" of the prompt from " + prompt.template_source + " are " + field_names(prompt) +
                                          ", expected request alone. Export the bundle again.");
  }
  const std::string& placeholder = field->second;
  const size_t at = placeholder.empty() ? std::string::npos : prompt.template_text.find(placeholder);
  if (at == std::string::npos || prompt.template_text.find(placeholder, at + 1) != std::string::npos) {
    throw Error(Code::BUNDLE_INVALID, "\"template\" of the prompt from " + prompt.template_source + " does not hold '" +
                                          placeholder + "' exactly once. Export the bundle again.");
  }
  const auto split = [&](const std::string& text) { return tokenizer.split_control(text); };
  for (const std::string& text : {chat_.opening, chat_.user.before, prompt.template_text.substr(0, at)}) {
    append(before_, split(text));
  }
  for (const std::string& text : {prompt.template_text.substr(at + placeholder.size()), chat_.user.after, chat_.generation}) {
    append(after_, split(text));
  }
}

TokenIds Prompt::encode_between(std::string_view request) const {
  std::vector<Segment> segments = before_;
  segments.emplace_back(std::string(request));
  append(segments, after_);
  return tokenizer_.encode_segments(segments);
}

TokenIds Prompt::encode_request(std::string_view request) const {
  check_text(request, "request");
  return encode_between(request);
}

TokenIds Prompt::encode_messages(const std::vector<Message>& messages) const {
  if (messages.empty() || messages.back().role != "user") {
    refuse("messages: the last message must have the role user. Add the user's message.");
  }
  std::vector<Segment> segments;
  if (messages.front().role != "system") append(segments, tokenizer_.split_control(chat_.opening));
  for (size_t index = 0; index < messages.size(); ++index) {
    const RoleFacts& pieces = role(messages, index);
    const std::string& content = messages[index].content;
    check_text(content, "messages[" + std::to_string(index) + "].content");
    append(segments, tokenizer_.split_control(pieces.before));
    segments.emplace_back(content);
    append(segments, tokenizer_.split_control(pieces.after));
  }
  append(segments, tokenizer_.split_control(chat_.generation));
  return tokenizer_.encode_segments(segments);
}

const RoleFacts& Prompt::role(const std::vector<Message>& messages, size_t index) const {
  const std::string& role = messages[index].role;
  const std::string where = "messages[" + std::to_string(index) + "].role: ";
  if (role == "user") return chat_.user;
  if (role != "system" && role != "assistant") {
    refuse(where + "got '" + role + "', expected one of system, user, assistant.");
  }
  if (role == "system" && index > 0) refuse(where + "system may only come first. Move it to the front.");
  const std::optional<RoleFacts>& pieces = role == "system" ? chat_.system : chat_.assistant;
  if (!pieces) refuse(where + "this model's chat template cannot place a " + role + " message.");
  return *pieces;
}

TokenIds Prompt::fixed_prefix() const {
  TokenIds prefix = encode_between(kProbes[0]);
  for (const char* probe : kProbes) prefix.resize(common_prefix(prefix, encode_between(probe)));
  return prefix;
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
