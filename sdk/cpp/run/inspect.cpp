#include <cstdio>
#include <fstream>
#include <iterator>
#include <utility>

#include "error.h"
#include "text/json_text.h"
#include "runtime/bundle.h"
#include "runtime/graph_choice.h"
#include "runtime/kernels.h"
#include "run/arguments.h"
#include "run/commands.h"
#include "run/failure.h"

namespace rubricrm::run {

const char* const kInspectHelp =
    "Usage: rubricrm-run inspect [OPTIONS] BUNDLE\n\n"
    "Show what BUNDLE holds, and check that it is whole.\n\n"
    "  --verify                Hash every file and compare with the manifest.\n"
    "  --json                  Print one JSON object.\n";

namespace {

int64_t num_bytes(const Bundle& bundle) {
  int64_t sum = 0;
  for (const auto& [name, file] : bundle.manifest().files) sum += file.size;
  return sum;
}

// A size with three significant digits and a decimal unit: "512 B", "4.72 GB".
std::string byte_text(int64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  static const char* const units[] = {"KB", "MB", "GB", "TB"};
  int unit = 0;
  double size = static_cast<double>(bytes) / 1000;
  while (unit < 3 && size >= 999.5) {
    size /= 1000;
    ++unit;
  }
  char text[40];
  const int decimals = size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  std::snprintf(text, sizeof text, "%.*f %s", decimals, size, units[unit]);
  return text;
}

std::string with_commas(int64_t number) {
  std::string text = std::to_string(number);
  for (int64_t at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(at, ",");
  return text;
}

std::string graph_text(const GraphFacts& graph, const Kernels& kernels) {
  const Problem problem = unknown_words(graph, kernels);
  return graph.file + " for " + graph.target + ", computes in " + graph.compute_type + ", KV cache " + graph.kv_type +
         ", weights " + graph.layout + (problem ? " (skipped: " + *problem + ")" : "");
}

void print_row(const char* name, const std::string& text) { std::printf("%-9s %s\n", name, text.c_str()); }

void print_text(const Bundle& bundle, bool is_verified) {
  const Manifest& facts = bundle.manifest();
  const Kernels kernels = find_kernels();
  print_row("model", facts.model.name + " (" + facts.model.architecture + ", " +
                         with_commas(facts.model.num_parameters) + " parameters)");
  print_row("license", facts.model.license.value_or("not declared"));
  const char* label = "graphs";
  for (const GraphFacts& graph : facts.graphs) print_row(std::exchange(label, ""), graph_text(graph, kernels));
  if (facts.graphs.empty()) print_row(label, "none: a prompt directory, for use with a server");
  print_row("weights", facts.quantization.weights + " (" + facts.quantization.method + "), activations " +
                           facts.quantization.activations);
  print_row("context", std::to_string(facts.model.context_length) + " tokens");
  label = "prompts";
  for (const auto& [name, prompt] : facts.prompts) {
    print_row(std::exchange(label, ""), name + ": " + std::to_string(prompt.prefix.num_tokens) +
                                            " tokens fixed, template " + prompt.template_sha256.substr(0, 12));
  }
  print_row("size", byte_text(num_bytes(bundle)) + " in " + std::to_string(facts.files.size()) + " files");
  print_row("hashes", is_verified ? "verified" : "not compared (--verify)");
}

void print_json_of(const Bundle& bundle, bool is_verified) {
  std::ifstream file(bundle.path() / kManifestName, std::ios::binary);
  const std::string manifest(std::istreambuf_iterator<char>(file), {});
  const nlohmann::ordered_json document{{"manifest_sha256", bundle.manifest_sha256()},
                                        {"num_bytes", num_bytes(bundle)},
                                        {"verified", is_verified},
                                        {"manifest", nlohmann::ordered_json::parse(manifest)}};
  std::printf("%s\n", json_text(document, 2).c_str());
}

}  // namespace

int inspect(const std::vector<std::string>& words) {
  const Arguments arguments(words, {}, {"--json", "--verify"});
  if (arguments.words().size() != 1) throw UsageError("Give one BUNDLE.");
  const bool verify = arguments.has("--verify");
  try {
    const Bundle bundle = Bundle::open(arguments.words()[0], verify);
    arguments.has("--json") ? print_json_of(bundle, verify) : print_text(bundle, verify);
  } catch (const Error& error) {
    throw_failure(error);
  }
  return 0;
}

}  // namespace rubricrm::run
