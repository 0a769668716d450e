#include "generation/step_cost.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace rubricrm {
namespace {

constexpr int64_t kMeasuredRows[] = {1, 2, 3, 4, 6, kMostMeasuredRows};
constexpr int kRounds = 3;

double seconds_of(const RunStep& run, int64_t rows) {
  const auto started = std::chrono::steady_clock::now();
  run(rows);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

int64_t rows_of(const std::string& key) {
  int64_t rows = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), rows);
  if (error != std::errc() || end != key.data() + key.size()) throw std::runtime_error("'" + key + "' is no number");
  return rows;
}

}  // namespace

StepCost::StepCost(std::map<int64_t, double> measured) : measured_(std::move(measured)) {
  if (measured_.count(1) == 0 || measured_.begin()->first < 1) {
    throw std::invalid_argument("its rows are not 1 and others above it");
  }
  for (const auto& [rows, seconds] : measured_) {
    if (!std::isfinite(seconds) || seconds <= 0.0) throw std::invalid_argument("its seconds are not all positive");
  }
}

double StepCost::seconds(int64_t rows) const {
  if (measured_.size() == 1) return measured_.begin()->second;
  auto high = measured_.lower_bound(rows);
  if (high != measured_.end() && high->first == rows) return high->second;
  if (high == measured_.end()) --high;
  const auto low = std::prev(high);
  double slope = (high->second - low->second) / static_cast<double>(high->first - low->first);
  if (rows > high->first) slope = std::max(0.0, slope);
  return high->second + slope * static_cast<double>(rows - high->first);
}

StepCost measure_step_cost(const RunStep& run) {
  run(1);
  run(kMostMeasuredRows);
  std::map<int64_t, double> measured;
  for (int round = 0; round < kRounds; ++round) {
    for (int64_t rows : kMeasuredRows) {
      const double seconds = seconds_of(run, rows);
      const auto [entry, is_first] = measured.emplace(rows, seconds);
      if (!is_first) entry->second = std::min(entry->second, seconds);
    }
  }
  // A clock that stands still must not make a step free.
  double fastest = std::numeric_limits<double>::infinity();
  for (auto entry = measured.rbegin(); entry != measured.rend(); ++entry) {
    fastest = entry->second = std::max(1e-9, std::min(fastest, entry->second));
  }
  return StepCost(std::move(measured));
}

std::string step_cost_text(const StepCost& cost) {
  std::string text;
  for (const auto& [rows, seconds] : cost.measured()) {
    text += (text.empty() ? "{\"" : ", \"") + std::to_string(rows) + "\": " + nlohmann::json(seconds).dump();
  }
  return text + "}";
}

StepCost parse_step_cost(const std::string& text) {
  // A callback bounds the depth: what is nested is no cost.
  const auto is_flat = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > 1) throw std::runtime_error("it is no object of numbers");
    return true;
  };
  nlohmann::json found;
  try {
    found = nlohmann::json::parse(text, is_flat);
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(std::string("it is no JSON: ") + error.what());
  }
  if (!found.is_object()) throw std::runtime_error("it is no object of numbers");
  std::map<int64_t, double> measured;
  for (const auto& [key, value] : found.items()) {
    if (!value.is_number()) throw std::runtime_error("it is no object of numbers");
    measured[rows_of(key)] = value.get<double>();
  }
  try {
    return StepCost(std::move(measured));
  } catch (const std::invalid_argument& error) {
    throw std::runtime_error(error.what());
  }
}

}  // namespace rubricrm
