// Request to prompt tokens. Template text may hold control tokens; what a user typed is ordinary text, always.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/manifest.h"
#include "runtime/token_ids.h"
#include "runtime/tokenizer.h"

namespace rubricrm {

struct Message {
  std::string role;  // system, user or assistant
  std::string content;
};

// Encodes requests and conversations the way that the bundle's model was trained on. For any number of threads.
class Prompt {
 public:
  // The tokenizer must outlive the prompt. BUNDLE_INVALID: the prompt has other fields than the request, or its
  // template does not hold the placeholder once.
  Prompt(const PromptFacts& prompt, ChatFacts chat, const Tokenizer& tokenizer);

  // The whole prompt's ids for a request. REQUEST_INVALID: the request is blank, holds NUL, or is no UTF-8.
  TokenIds encode_request(std::string_view request) const;

  // The ids of a conversation, ready for the model's turn. OPTION_INVALID: no message, an unknown role, one that the
  // chat template cannot place, or a wrong order. REQUEST_INVALID: a message is blank, holds NUL, or is no UTF-8.
  TokenIds encode_messages(const std::vector<Message>& messages) const;

  // The ids that begin the prompt of every request, whatever it says.
  TokenIds fixed_prefix() const;

 private:
  const RoleFacts& role(const std::vector<Message>& messages, size_t index) const;
  TokenIds encode_between(std::string_view request) const;

  ChatFacts chat_;
  const Tokenizer& tokenizer_;
  std::vector<Segment> before_, after_;
};

// How many leading ids two sequences share.
size_t common_prefix(const TokenIds& left, const TokenIds& right);

// Throws REQUEST_INVALID for text that no model should get: blank, with NUL, or no UTF-8. `name` is for the message.
void check_text(std::string_view text, const std::string& name);

}  // namespace rubricrm
