// The bundle's manifest: what a bundle says of itself, as types. The contract is docs/BUNDLE.md; the same names as
// rubricrm/runtime/manifest.py. What stands under "extensions" is ignored.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace rubricrm {

constexpr const char* kBundleFormat = "rubricrm-bundle";
constexpr int64_t kFormatVersion = 2;
constexpr const char* kRubricPrompt = "rubric";                 // the prompt that turns a request into a rubric
constexpr const char* kRequestField = "request";                // its field
constexpr const char* kJudgePairwisePrompt = "judge-pairwise";  // the prompt that compares two answers by a rubric
constexpr const char* kPackedLayout = "packed";
constexpr const char* kStandardLayout = "standard";

using Words = std::vector<std::string>;

// Types of keys and values of a KV cache on a device, by the target of a graph; empty: an unknown target.
const Words& kv_types(const std::string& target);
const Words& targets();
const Words& float_types();

struct ModelFacts {
  std::string name, architecture;
  std::optional<std::string> license;  // none: undeclared
  int64_t num_parameters, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim;
  int64_t vocab_size, context_length;
};

// `library`: version of this project's kernels; none: no library is needed.
struct RequiredFacts {
  std::map<std::string, int64_t> domains;
  std::optional<std::string> library;
};

// Words are those of this version or of a later one: choose_graph says whether this one knows them.
struct GraphFacts {
  std::string file;
  std::optional<std::string> data_file;
  std::string layout, target, kv_update, kv_type, compute_type;
  RequiredFacts required;
};

struct QuantizationFacts {
  std::string weights, activations, method;
};

// Rows of the vocabulary from `num_tokens` on are padding and never chosen.
struct TokenizerFacts {
  std::string file;
  int64_t num_tokens;
};

struct RoleFacts {
  std::string before, after;
};

// The chat template in pieces. A role that the template cannot place is none.
struct ChatFacts {
  std::string opening;
  std::optional<RoleFacts> system;
  RoleFacts user;
  std::optional<RoleFacts> assistant;
  std::string generation;
  bool starts_in_thought;
};

// The tokens that begin every prompt, and by KV type the files of their keys and values.
struct PrefixFacts {
  int64_t num_tokens;
  std::map<std::string, std::string> files;
};

struct PromptFacts {
  std::map<std::string, std::string> fields;  // name -> placeholder
  std::string template_text, template_sha256, template_source;
  std::vector<int32_t> stop_ids;
  PrefixFacts prefix;
  std::optional<std::string> grammar, phrases;
};

struct FileFacts {
  int64_t size;
  std::string sha256;
};

struct SourceFacts {
  std::optional<std::string> repo, commit;
  std::map<std::string, FileFacts> files;
};

struct ProvenanceFacts {
  SourceFacts source;
  std::map<std::string, std::string> tools;
  std::string command;
};

// Without graphs it describes a prompt directory, for use with a server.
struct Manifest {
  ModelFacts model;
  std::vector<GraphFacts> graphs;  // the best one first
  QuantizationFacts quantization;
  TokenizerFacts tokenizer;
  ChatFacts chat;
  std::map<std::string, PromptFacts> prompts;
  int64_t max_new_tokens;                                // generation.max_new_tokens
  std::optional<std::map<std::string, double>> quality;  // none: nothing was quantized
  std::map<std::string, FileFacts> files;
  ProvenanceFacts provenance;

  // Whether the bundle itself holds a graph's data.
  bool has_data(const GraphFacts& graph) const;
  // What the model is for: the rubric's prompt if it has that one, else the judge's.
  const char* prompt_name() const;
  // The prompt of `prompt_name`. Throws BUNDLE_INVALID where there is none.
  const PromptFacts& prompt() const;
};

}  // namespace rubricrm
