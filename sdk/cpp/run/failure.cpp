#include "run/failure.h"

#include "api/errors.h"
#include "rubricrm.hpp"

namespace rubricrm::run {

void throw_failure(const Error& error) {
  rubricrm_error reported;
  report(&reported, error.code(), error.what());
  throw Failure(reported);
}

}  // namespace rubricrm::run
