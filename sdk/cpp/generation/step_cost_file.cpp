#include "generation/step_cost_file.h"

#include <optional>
#include <stdexcept>

namespace rubricrm {
namespace {

// What a file holds; none where there is none, or none that can be used.
std::optional<StepCost> read(const fs::path& path, std::vector<std::string>& warnings) {
  std::error_code unknown;
  if (fs::status(path, unknown).type() == fs::file_type::not_found) return std::nullopt;
  try {
    return parse_step_cost(read_file(path));
  } catch (const std::runtime_error& error) {
    warnings.push_back(path.string() + ": measuring the cost of steps again (" + error.what() + ")");
    return std::nullopt;
  }
}

}  // namespace

OpenedStepCost open_step_cost(const CacheDirectory& cache, const std::string& manifest_sha256,
                              const std::string& cache_key, const std::string& conditions, const RunStep& run) {
  std::vector<std::string> warnings;
  fs::path path;
  try {
    path = cache.own(fs::path(manifest_sha256) / cache_key) / ("step_cost." + conditions + ".json");
  } catch (const FileError& error) {
    return {measure_step_cost(run), {cache.without(error)}};
  }
  if (const std::optional<StepCost> kept = read(path, warnings)) return {*kept, warnings};
  StepCost cost = measure_step_cost(run);
  try {
    write_whole(path, step_cost_text(cost));
  } catch (const FileError& error) {
    warnings.push_back(std::string("the cost of steps could not be kept (") + error.what() + ")");
  }
  return {std::move(cost), std::move(warnings)};
}

}  // namespace rubricrm
