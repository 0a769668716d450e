#include "generation/engine_options.h"

#include <string>

#include "error.h"

namespace rubricrm {
namespace {

constexpr int64_t kMostTogether = 128;
constexpr int64_t kMostWaiting = int64_t{1} << 30;
constexpr int64_t kMostBytes = int64_t{1} << 60;

void check_integer(const char* name, int64_t value, int64_t most) {
  if (value >= 1 && value <= most) return;
  throw Error(Code::OPTION_INVALID, std::string(name) + " must be an integer from 1 to " + std::to_string(most) +
                                        ", got " + std::to_string(value) + ".");
}

}  // namespace

void check(const EngineOptions& options) {
  check_integer("max_concurrency", options.max_concurrency, kMostTogether);
  check_integer("max_waiting", options.max_waiting, kMostWaiting);
  if (options.max_memory) check_integer("max_memory", *options.max_memory, kMostBytes);
}

}  // namespace rubricrm
