#include "runtime/manifest.h"

#include "error.h"

namespace rubricrm {

const Words& targets() {
  static const Words words{"cpu", "cuda", "tensorrt"};
  return words;
}

const Words& float_types() {
  static const Words words{"float32", "float16", "bfloat16"};
  return words;
}

const Words& kv_types(const std::string& target) {
  static const std::map<std::string, Words> words{
      {"cpu", {"float32", "float16", "int8"}},
      {"cuda", {"float32", "float16", "bfloat16", "int8", "float8e4m3fn"}},
      {"tensorrt", {"float32", "float16", "bfloat16"}},
  };
  static const Words none;
  const auto found = words.find(target);
  return found == words.end() ? none : found->second;
}

bool Manifest::has_data(const GraphFacts& graph) const {
  return !graph.data_file || files.count(*graph.data_file) != 0;
}

const char* Manifest::prompt_name() const {
  const bool is_judge = prompts.count(kRubricPrompt) == 0 && prompts.count(kJudgePairwisePrompt) != 0;
  return is_judge ? kJudgePairwisePrompt : kRubricPrompt;
}

const PromptFacts& Manifest::prompt() const {
  const std::string name = prompt_name();
  const auto found = prompts.find(name);
  if (found != prompts.end()) return found->second;
  std::string names;
  for (const auto& [known, facts] : prompts) names += (names.empty() ? "" : ", ") + known;
  throw Error(Code::BUNDLE_INVALID, model.name + ": \"prompts\" has " + (names.empty() ? "nothing" : names) +
                                        ", expected " + name + " among them. Export the bundle again.");
}

}  // namespace rubricrm
