#include "runtime/graph_choice.h"

#include <algorithm>
#include <map>

#include "error.h"

namespace rubricrm {
namespace {

// The newest versions of operator domains whose operators were run.
const std::map<std::string, int64_t>& domains() {
  static const std::map<std::string, int64_t> versions{{"ai.onnx", 24}, {"com.microsoft", 1}, {"rubricrm", 1}};
  return versions;
}

const std::map<std::string, Words>& devices() {
  static const std::map<std::string, Words> targets{
      {"cpu", {"cpu", "tensorrt"}}, {"cuda", {"cuda"}}, {"tensorrt", {"tensorrt"}}, {"tensorrt-rtx", {"tensorrt"}}};
  return targets;
}

// Ways to append to the KV cache, by target.
const Words& kv_updates(const std::string& target) {
  static const std::map<std::string, Words> words{
      {"cpu", {"slots", "shared"}}, {"cuda", {"shared"}}, {"tensorrt", {"scatter"}}};
  return words.at(target);
}

std::string joined(const Words& words, const char* separator = ", ") {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

size_t index_of(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) - words.begin();
}

// Graphs that could be run if their device is here.
std::vector<const GraphFacts*> usable(const std::vector<GraphFacts>& graphs, const std::string& where,
                                      const Kernels& kernels) {
  std::vector<const GraphFacts*> found;
  Words reasons;
  for (const GraphFacts& graph : graphs) {
    const Problem problem = unknown_words(graph, kernels);
    if (problem) {
      reasons.push_back(graph.file + ": " + *problem);
    } else {
      found.push_back(&graph);
    }
  }
  if (!found.empty()) return found;
  throw Error(Code::GRAPH_UNUSABLE, where + ": no graph can be run here (" + joined(reasons, "; ") +
                                        "). Upgrade rubricrm, or export the checkpoint again.");
}

// Those of the targets that a device runs; what was made for the device comes before what it runs for checking.
std::vector<const GraphFacts*> fitting(const std::vector<const GraphFacts*>& known, const std::string& device,
                                       const std::string& where) {
  if (device.empty()) return known;
  const Words& targets = targets_of(device);
  std::vector<const GraphFacts*> found;
  std::copy_if(known.begin(), known.end(), std::back_inserter(found),
               [&](const GraphFacts* graph) { return index_of(targets, graph->target) < targets.size(); });
  std::stable_sort(found.begin(), found.end(), [&](const GraphFacts* a, const GraphFacts* b) {
    return index_of(targets, a->target) < index_of(targets, b->target);
  });
  if (!found.empty()) return found;
  Words exported;
  for (const GraphFacts* graph : known) {
    if (index_of(exported, graph->target) == exported.size()) exported.push_back(graph->target);
  }
  throw Error(Code::OPTION_INVALID, where + ": was exported for " + joined(exported) + ", cannot run on " + device +
                                        ". Export with --target " + targets[0] + ".");
}

}  // namespace

const Words& targets_of(const std::string& device) {
  const auto found = devices().find(device);
  if (found != devices().end()) return found->second;
  throw Error(Code::OPTION_INVALID, "device must be one of cpu, cuda, tensorrt, tensorrt-rtx, got '" + device + "'.");
}

GraphChoice choose_graph(const std::vector<GraphFacts>& graphs, const std::string& device, const std::string& where,
                         const Surroundings& surroundings) {
  if (!device.empty()) targets_of(device);
  if (graphs.empty()) {
    throw Error(Code::GRAPH_UNUSABLE,
                where +
                    ": has no graph: it is a prompt directory, for use with a server. Give a bundle made by "
                    "`rubricrm export onnx` to run it here.");
  }
  std::map<std::string, std::string> problems;
  Words texts;
  for (const GraphFacts* graph : fitting(usable(graphs, where, surroundings.kernels), device, where)) {
    const std::string chosen = device.empty() ? graph->target : device;
    if (problems.count(chosen) != 0) continue;
    const Problem problem = surroundings.device_problem(chosen);
    if (!problem) return {*graph, chosen};
    problems.emplace(chosen, *problem);
    texts.push_back("device " + chosen + " cannot be used: " + *problem);
  }
  throw Error(Code::RUNTIME_MISSING, joined(texts, "; "));
}

Problem unknown_words(const GraphFacts& graph, const Kernels& kernels) {
  if (index_of(targets(), graph.target) == targets().size()) {
    return "target '" + graph.target + "' is none of " + joined(targets());
  }
  const Words layouts = graph.target == "cpu" ? Words{kStandardLayout, kPackedLayout} : Words{kStandardLayout};
  const struct {
    const char* name;
    const std::string& word;
    const Words& words;
  } allowed[] = {{"compute_type", graph.compute_type, float_types()},
                 {"kv_type", graph.kv_type, kv_types(graph.target)},
                 {"kv_update", graph.kv_update, kv_updates(graph.target)},
                 {"layout", graph.layout, layouts}};
  for (const auto& [name, word, words] : allowed) {
    if (index_of(words, word) < words.size()) continue;
    return std::string(name) + " '" + word + "' is none of " + joined(words) + " for the target " + graph.target;
  }
  for (const auto& [domain, version] : graph.required.domains) {
    const auto known = domains().find(domain);
    if (known != domains().end() && version <= known->second) continue;
    return "it needs version " + std::to_string(version) + " of the operators of " + domain + ", this version knows " +
           (known == domains().end() ? "none" : "up to " + std::to_string(known->second));
  }
  const auto& wanted = graph.required.library;
  if (!wanted || *wanted == kernels.operators) return std::nullopt;
  return "it needs version " + *wanted + " of this project's kernels, and the library is " +
         (kernels.problem.empty() ? "of version " + kernels.operators : "not used: " + kernels.problem);
}

std::string running_kernels(const GraphFacts& graph, const std::vector<GraphFacts>& graphs, const Kernels& kernels) {
  if (graph.required.library) return "rubricrm " + kernels.instruction_set;
  for (const GraphFacts& other : graphs) {
    if (!other.required.library) continue;
    if (const Problem problem = unknown_words(other, kernels)) return "onnxruntime (" + *problem + ")";
  }
  return "onnxruntime (the graph has no operators of rubricrm)";
}

}  // namespace rubricrm
