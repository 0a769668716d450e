// How a model serves requests: what it takes on at once, and what it keeps.
#pragma once

#include <cstdint>
#include <optional>

namespace rubricrm {

// Options of one open model, for all of its requests.
struct EngineOptions {
  // Most requests that are computed together, 1 to 128. Each has room for the model's whole context; memory is taken as
  // tokens come.
  int64_t max_concurrency = 8;
  // Most requests that wait beside them; one more is refused with ENGINE_BUSY.
  int64_t max_waiting = 1000;
  // Most bytes of keys and values; none: whatever max_concurrency contexts take. Requests that do not fit beside others
  // wait, and the context is cut to what fits.
  std::optional<int64_t> max_memory;
  // Whether keys and values of a prompt are kept for the next one that begins alike. No result depends on it.
  bool keep_prompts = true;
};

// Throws OPTION_INVALID where a value is out of range.
void check(const EngineOptions& options);

}  // namespace rubricrm
