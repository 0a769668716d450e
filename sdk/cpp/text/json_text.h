// JSON as Python's json.dumps writes it with ensure_ascii=False.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace rubricrm {

// Keys keep their order. `indent`: spaces for each level; none: one line. Strings must be UTF-8.
std::string json_text(const nlohmann::ordered_json& value, std::optional<int> indent = std::nullopt);

// A number as Python's repr writes a float: the shortest digits that are read back as it.
std::string float_text(double value);

}  // namespace rubricrm
