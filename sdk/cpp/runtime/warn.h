// Where warnings go.
#pragma once

#include <functional>
#include <string>

namespace rubricrm {

// Gets what a user should know though nothing failed. May be empty.
using Warn = std::function<void(const std::string&)>;

inline void tell(const Warn& warn, const std::string& what) {
  if (warn) warn(what);
}

}  // namespace rubricrm
