#include "runtime/conversation.h"

#include <iterator>
#include <utility>

#include "error.h"
#include "runtime/prompt.h"

namespace rubricrm {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(Code::OPTION_INVALID, message); }

}  // namespace

TokenIds Conversation::encode(const std::vector<Message>& messages) const {
  if (messages.empty() || messages.back().role != "user") {
    refuse("messages: the last message must have the role user. Add the user's message.");
  }
  std::vector<Segment> segments;
  const auto append = [&](const std::string& text) {
    std::vector<Segment> more = tokenizer_.split_control(text);
    std::move(more.begin(), more.end(), std::back_inserter(segments));
  };
  if (messages.front().role != "system") append(chat_.opening);
  for (size_t index = 0; index < messages.size(); ++index) {
    const RoleFacts& pieces = role(messages, index);
    const std::string& content = messages[index].content;
    check_text(content, "messages[" + std::to_string(index) + "].content");
    append(pieces.before);
    segments.emplace_back(content);
    append(pieces.after);
  }
  append(chat_.generation);
  return tokenizer_.encode_segments(segments);
}

const RoleFacts& Conversation::role(const std::vector<Message>& messages, size_t index) const {
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

}  // namespace rubricrm
