// Options as the cases and the parity tests write them.
#pragma once

#include <nlohmann/json.hpp>

#include "generation/options.h"

inline rubricrm::GenerationOptions read_options(const nlohmann::json& given) {
  rubricrm::GenerationOptions options;
  options.temperature = given.value("temperature", 0.0);
  options.top_k = given.value("top_k", int64_t{0});
  options.top_p = given.value("top_p", 1.0);
  options.min_p = given.value("min_p", 0.0);
  if (given.contains("max_new_tokens")) options.max_new_tokens = given["max_new_tokens"].get<int64_t>();
  if (given.contains("logprobs")) options.logprobs = given["logprobs"].get<int64_t>();
  if (given.contains("timeout_s")) options.timeout_s = given["timeout_s"].get<double>();
  if (given.contains("stop")) options.stop = given["stop"].get<std::vector<std::string>>();
  options.stop_on_repetition = given.value("stop_on_repetition", true);
  return options;
}
