// Which graph of a bundle to run: the first whose words this version knows and whose device is here.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/kernels.h"
#include "runtime/manifest.h"

namespace rubricrm {

struct GraphChoice {
  GraphFacts graph;
  std::string device;
};

// Why something cannot be used, in a clause; none: it can.
using Problem = std::optional<std::string>;

// What a choice depends on beside the manifest.
struct Surroundings {
  const Kernels& kernels;
  std::function<Problem(const std::string& device)> device_problem;
};

// Devices by name; the targets of the graphs that each one runs, its own first. Throws OPTION_INVALID: there is none of
// this name.
const Words& targets_of(const std::string& device);

// The first graph that can be run, and where. `device`: empty takes the device that each graph was exported for.
// `where`: the bundle's path, for messages. Throws
//   GRAPH_UNUSABLE   there is no graph, or none that can be run here; each is named with its reason;
//   OPTION_INVALID   unknown device, or no graph is of a target that it runs;
//   RUNTIME_MISSING  the device of every graph that is left cannot be used here.
GraphChoice choose_graph(const std::vector<GraphFacts>& graphs, const std::string& device, const std::string& where,
                         const Surroundings& surroundings);

// Why this installation cannot run a graph, whatever the device. `scatter` runs on a CPU for checking; `paged`, which
// needs CUDA, and `concatenate` are skipped.
Problem unknown_words(const GraphFacts& graph, const Kernels& kernels);

// Which kernels run a graph: "rubricrm avx2", say, or "onnxruntime (REASON)".
std::string running_kernels(const GraphFacts& graph, const std::vector<GraphFacts>& graphs, const Kernels& kernels);

}  // namespace rubricrm
