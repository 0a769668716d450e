// Ids of tokens.
#pragma once

#include <cstdint>
#include <vector>

namespace rubricrm {

using TokenIds = std::vector<int32_t>;

}  // namespace rubricrm
