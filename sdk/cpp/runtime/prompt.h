// Values to prompt tokens. Template text may hold control tokens; what a user typed is ordinary text, always.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/manifest.h"
#include "runtime/token_ids.h"
#include "runtime/tokenizer.h"

namespace rubricrm {

// The value of each field, in any order.
using FieldValues = std::vector<std::pair<std::string, std::string>>;

// One of a bundle's prompts: a template with fields, in the turn of a user. For any number of threads.
class Prompt {
 public:
  // name: of the prompt. The tokenizer must outlive it. BUNDLE_INVALID: the template does not hold each placeholder
  // once, or the prompt for rubrics has other fields than the request.
  Prompt(std::string name, const PromptFacts& facts, const ChatFacts& chat, const Tokenizer& tokenizer);

  // The whole prompt's ids. OPTION_INVALID: a field is missing, unknown, or given twice. REQUEST_INVALID: a value is
  // blank, holds NUL, or is no UTF-8.
  TokenIds encode(const FieldValues& values) const;
  // The user's message as text, without the chat template.
  std::string render(const FieldValues& values) const;
  // The ids that begin the prompt whatever the values are.
  TokenIds fixed_prefix() const;

 private:
  struct Place {
    std::string field;
    std::vector<Segment> after;  // what follows its value, the end of the chat template too
    std::string text_after;      // what follows its value in the template
  };

  void check_fields(const PromptFacts& facts) const;
  // Checked values in the order of the template.
  std::vector<std::string_view> in_order(const FieldValues& values) const;
  TokenIds encode_in_order(const std::vector<std::string_view>& values) const;

  std::string name_;
  const Tokenizer& tokenizer_;
  std::vector<Segment> before_;
  std::string text_before_;
  std::vector<Place> places_;  // in the order of the template
};

// How many leading ids two sequences share.
size_t common_prefix(const TokenIds& left, const TokenIds& right);

// Throws REQUEST_INVALID for text that no model should get: blank, with NUL, or no UTF-8. `name` is for the message.
void check_text(std::string_view text, const std::string& name);

}  // namespace rubricrm
