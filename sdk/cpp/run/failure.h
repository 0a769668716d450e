// Errors of the library's inside as the failures that the commands know.
#pragma once

#include "error.h"

namespace rubricrm::run {

[[noreturn]] void throw_failure(const Error& error);

}  // namespace rubricrm::run
