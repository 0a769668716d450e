#include "generation/options.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "error.h"

namespace rubricrm {
namespace {

// A number as Python's repr writes it: the fewest digits that give it back, and an exponent below -4 and from 16 on.
std::string written(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value, std::chars_format::scientific).ptr;
  const std::string scientific(digits, end);
  const size_t mark = scientific.find('e');
  const int exponent = std::atoi(scientific.c_str() + mark + 1);
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto fixed_end = std::to_chars(digits, digits + sizeof(digits), value, std::chars_format::fixed).ptr;
  const std::string fixed(digits, fixed_end);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

std::string written(int64_t value) { return std::to_string(value); }

std::string written(const std::vector<std::string>& strings) {
  std::string list = "[";
  for (const std::string& string : strings) list += (list.size() > 1 ? ", '" : "'") + string + "'";
  return list + "]";
}

template <class T>
void require(bool condition, const char* name, const char* expected, const T& value) {
  if (condition) return;
  throw Error(Code::OPTION_INVALID, std::string(name) + " must be " + expected + ", got " + written(value) + ".");
}

void require_finite(const char* name, double value) { require(std::isfinite(value), name, "a finite number", value); }

bool are_not_empty(const std::vector<std::string>& strings) {
  for (const std::string& string : strings) {
    if (string.empty()) return false;
  }
  return true;
}

}  // namespace

void GenerationOptions::check() const {
  require_finite("temperature", temperature);
  require_finite("top_p", top_p);
  require_finite("min_p", min_p);
  if (timeout_s) require_finite("timeout_s", *timeout_s);
  if (max_new_tokens) require(*max_new_tokens >= 1, "max_new_tokens", "at least 1", *max_new_tokens);
  const bool is_in_range = temperature == 0.0 || (temperature >= 0.001 && temperature <= 100.0);
  require(is_in_range, "temperature", "0 (greedy) or in [0.001, 100]", temperature);
  require(top_k >= 0, "top_k", "at least 0", top_k);
  require(top_p > 0.0 && top_p <= 1.0, "top_p", "in (0, 1]", top_p);
  require(min_p >= 0.0 && min_p <= 1.0, "min_p", "in [0, 1]", min_p);
  if (logprobs) require(*logprobs >= 0 && *logprobs <= kMostLogprobs, "logprobs", "0 to 20", *logprobs);
  if (timeout_s) require(*timeout_s > 0.0, "timeout_s", "greater than 0", *timeout_s);
  require(are_not_empty(stop), "stop", "a list of strings that are not empty", stop);
}

}  // namespace rubricrm
