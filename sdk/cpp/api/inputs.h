// Requests, fields and messages as callers give them.
#pragma once

#include <vector>

#include "rubricrm.h"
#include "runtime/conversation.h"
#include "runtime/prompt.h"

namespace rubricrm {

// The fields of the prompt for rubrics. REQUEST_INVALID: the request is null.
FieldValues request_values(const char* request, size_t size);

// OPTION_INVALID: the array or a name is null. REQUEST_INVALID: a value is null.
FieldValues values_of(const rubricrm_field* fields, size_t num_fields);

// OPTION_INVALID: the array or a role is null. REQUEST_INVALID: a content is null.
std::vector<Message> messages_of(const rubricrm_message* messages, size_t num_messages);

}  // namespace rubricrm
