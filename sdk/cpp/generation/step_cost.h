// What a step costs on this machine by its number of rows: measured once, kept in the cache directory.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace rubricrm {

// Seconds of a step, by rows.
class StepCost {
 public:
  // measured: rows -> seconds, among them one row. What lies between is interpolated, and what lies beyond goes on as
  // the last two do, but never becomes cheaper. Throws std::invalid_argument: one row is missing, a number of rows is
  // below 1, or a time is not positive and finite.
  explicit StepCost(std::map<int64_t, double> measured);

  // What a step of so many rows takes, at least 1.
  double seconds(int64_t rows) const;
  const std::map<int64_t, double>& measured() const { return measured_; }

 private:
  std::map<int64_t, double> measured_;
};

// Runs a step of so many rows and waits for it; each with the same past, as long as is usual.
using RunStep = std::function<void(int64_t rows)>;

// Most rows that measure_step_cost runs.
constexpr int64_t kMostMeasuredRows = 8;

// Times steps of 1 to 8 rows: 20 steps, of which two are to warm up. The fastest of three rounds counts, and no step
// costs more than a wider one did: what is above is noise.
StepCost measure_step_cost(const RunStep& run);

// The contents of a file that keeps it: the same JSON as Python's, and back. Throws std::runtime_error with a clause
// that says why a file cannot be used.
std::string step_cost_text(const StepCost& cost);
StepCost parse_step_cost(const std::string& text);

}  // namespace rubricrm
