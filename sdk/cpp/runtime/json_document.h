// JSON as this project's readers take it: strict, and in bounded memory and depth.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace rubricrm {

using Json = nlohmann::json;

// Parses a whole text. Throws std::runtime_error with a clause that says what is wrong: no JSON, more than 200 levels
// deep, a key that stands twice in an object, text that is no UTF-8, a number that no double can hold.
Json parse_json(std::string_view text);

// A value in the words of Python's repr, cut to `most` characters: for messages, which are the same in both languages.
std::string python_text(const Json& value, size_t most = 80);

}  // namespace rubricrm
