// A rubric as a part of a JSON document: what Python's `Rubric.to_dict()` gives.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "rubric/rubric.h"

namespace rubricrm {

nlohmann::ordered_json json_of(const Rubric& rubric);

}  // namespace rubricrm
