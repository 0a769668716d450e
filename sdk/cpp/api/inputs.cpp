#include "api/inputs.h"

#include "api/errors.h"

namespace rubricrm {

FieldValues request_values(const char* request, size_t size) {
  return {{kRequestField, std::string(text_of(request, size, "request"))}};
}

FieldValues values_of(const rubricrm_field* fields, size_t num_fields) {
  if (num_fields > 0) required(fields, "fields");
  FieldValues values;
  for (size_t i = 0; i < num_fields; ++i) {
    const std::string where = "fields[" + std::to_string(i) + "]";
    const std::string name(&required(fields[i].name, (where + ".name").c_str()));
    values.emplace_back(name, text_of(fields[i].value, fields[i].value_size, (where + ".value").c_str()));
  }
  return values;
}

std::vector<Message> messages_of(const rubricrm_message* messages, size_t num_messages) {
  if (num_messages > 0) required(messages, "messages");
  std::vector<Message> result;
  for (size_t i = 0; i < num_messages; ++i) {
    const std::string where = "messages[" + std::to_string(i) + "]";
    const std::string role(&required(messages[i].role, (where + ".role").c_str()));
    const auto content = text_of(messages[i].content, messages[i].content_size, (where + ".content").c_str());
    result.push_back({role, std::string(content)});
  }
  return result;
}

}  // namespace rubricrm
