// A prompt of any fields: values to the ids of a user's turn. Values are ordinary text, always.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/manifest.h"
#include "runtime/tokenizer.h"

namespace rubricrm {

// The value of each field, in any order.
using FieldValues = std::vector<std::pair<std::string, std::string>>;

// For any number of threads.
class FieldPrompt {
 public:
  // `name`: of the prompt, for messages. The tokenizer must outlive it. BUNDLE_INVALID: a placeholder does not stand in
  // the template once.
  FieldPrompt(std::string name, const PromptFacts& facts, const ChatFacts& chat, const Tokenizer& tokenizer);

  // OPTION_INVALID: a field is missing, unknown, or given twice. REQUEST_INVALID: a value is blank, holds NUL, or is no
  // UTF-8.
  TokenIds encode(const FieldValues& values) const;
  // The user's message as text, without the chat template.
  std::string render(const FieldValues& values) const;

 private:
  struct Place {
    std::string field;
    std::vector<Segment> after;  // what follows its value, the end of the chat template too
    std::string text_after;      // what follows its value in the template
  };

  const std::string& value_of(const FieldValues& values, const std::string& field) const;
  void check_fields(const FieldValues& values) const;

  std::string name_;
  const Tokenizer& tokenizer_;
  std::vector<Segment> before_;
  std::string text_before_;
  std::vector<Place> places_;  // in the order of the template
};

}  // namespace rubricrm
