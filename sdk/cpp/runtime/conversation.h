// Messages to prompt tokens, without any template of a prompt. What they say is ordinary text, always.
#pragma once

#include <string>
#include <vector>

#include "runtime/manifest.h"
#include "runtime/token_ids.h"
#include "runtime/tokenizer.h"

namespace rubricrm {

struct Message {
  std::string role;  // system, user or assistant
  std::string content;
};

// Encodes conversations the way that the bundle's model was trained on. For any number of threads.
class Conversation {
 public:
  // Both must outlive it.
  Conversation(const ChatFacts& chat, const Tokenizer& tokenizer) : chat_(chat), tokenizer_(tokenizer) {}

  // The ids of messages, ready for the model's turn. OPTION_INVALID: no message, an unknown role, one that the chat
  // template cannot place, or a wrong order. REQUEST_INVALID: a message is blank, holds NUL, or is no UTF-8.
  TokenIds encode(const std::vector<Message>& messages) const;

 private:
  const RoleFacts& role(const std::vector<Message>& messages, size_t index) const;

  const ChatFacts& chat_;
  const Tokenizer& tokenizer_;
};

}  // namespace rubricrm
