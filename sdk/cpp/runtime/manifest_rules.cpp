#include "runtime/manifest_rules.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "error.h"
#include "runtime/json_document.h"
#include "runtime/sha256.h"

namespace rubricrm {
namespace {

constexpr size_t kLongestFileName = 255;
const char* const kNoWeights = "none";

const Words& quantized_weights() {
  static const Words words{"int8", "int4", "fp8"};
  return words;
}

const Words& stored_weights() {
  static const Words words{"fp32", "fp16", "bf16", "int8", "int4", "fp8"};
  return words;
}

const Words& activations() {
  static const Words words{"none", "int8", "fp8"};
  return words;
}

const Words& methods() {
  static const Words words{"none", "rtn", "gptq", "awq", "smoothquant"};
  return words;
}

bool has(const Words& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

template <class Iterator>
std::string joined(Iterator begin, Iterator end) {
  std::string text;
  for (; begin != end; ++begin) text += (text.empty() ? "" : ", ") + *begin;
  return text;
}

// Plain: letters, digits, "_", "-" and ".", not beginning with "." or "-".
bool is_file_name(const std::string& name) {
  const auto is_word = [](char c) {
    return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') || c == '_';
  };
  const auto is_plain = [&](char c) { return is_word(c) || c == '.' || c == '-'; };
  return !name.empty() && name.size() <= kLongestFileName && is_word(name[0]) &&
         std::all_of(name.begin(), name.end(), is_plain);
}

bool is_sha256(const std::string& text) {
  const auto is_digit = [](char c) { return ('0' <= c && c <= '9') || ('a' <= c && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), is_digit);
}

// How often a text holds another one, that is not empty, side by side.
int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

class Rules {
 public:
  Rules(const Manifest& manifest, const std::string& where) : manifest_(manifest), where_(where) {}

  void check() const {
    check_model();
    check_quantization();
    check_files();
    check_named_files();
    check_data_files();
    check_required();
    const int64_t num_tokens = manifest_.tokenizer.num_tokens, limit = manifest_.model.vocab_size;
    require(0 < num_tokens && num_tokens <= limit, "tokenizer.num_tokens", num_tokens,
            "1 to model.vocab_size " + std::to_string(limit));
    for (const auto& [name, prompt] : manifest_.prompts) check_prompt("prompts." + name, prompt);
    require(manifest_.max_new_tokens > 0, "generation.max_new_tokens", manifest_.max_new_tokens, "a positive number");
    if (!manifest_.quality) return;
    for (const auto& [name, figure] : *manifest_.quality) {
      require(std::isfinite(figure), "quality." + name, figure, "a finite number");
    }
  }

 private:
  void require(bool condition, const std::string& key, const Json& got, const std::string& expected) const {
    if (condition) return;
    throw Error(Code::BUNDLE_INVALID, where_ + ": \"" + key + "\" is " + python_text(got) + ", expected " + expected +
                                          ". Export the bundle again.");
  }

  void check_model() const {
    const ModelFacts& model = manifest_.model;
    const std::pair<const char*, int64_t> numbers[] = {
        {"num_parameters", model.num_parameters},
        {"hidden_size", model.hidden_size},
        {"intermediate_size", model.intermediate_size},
        {"num_layers", model.num_layers},
        {"num_heads", model.num_heads},
        {"num_kv_heads", model.num_kv_heads},
        {"head_dim", model.head_dim},
        {"vocab_size", model.vocab_size},
        {"context_length", model.context_length},
    };
    for (const auto& [name, value] : numbers) {
      require(value > 0, std::string("model.") + name, value, "a positive number");
    }
    // Sizes whose products no address can hold.
    const double positions = 4.0 * model.num_layers * model.num_kv_heads * model.head_dim * model.context_length;
    require(positions < 0x1p56 && model.vocab_size <= INT32_MAX, "model", "sizes", "sizes of a model");
  }

  void check_quantization() const {
    const QuantizationFacts& facts = manifest_.quantization;
    const auto require_word = [&](const char* name, const std::string& value, const Words& allowed) {
      require(has(allowed, value), std::string("quantization.") + name, value,
              "one of " + joined(allowed.begin(), allowed.end()));
    };
    require_word("weights", facts.weights, manifest_.graphs.empty() ? Words{kNoWeights} : stored_weights());
    require_word("activations", facts.activations, activations());
    require_word("method", facts.method, methods());
    if (!has(quantized_weights(), facts.weights)) {
      const std::string reason = "none where weights are " + facts.weights;
      require(facts.method == "none", "quantization.method", facts.method, reason);
      require(facts.activations == "none", "quantization.activations", facts.activations, reason);
      return;
    }
    require(facts.method != "none", "quantization.method", facts.method,
            "one of " + joined(methods().begin() + 1, methods().end()) + " for " + facts.weights);
    // Products are of two operands of one type: W8A8 in integers, or in FP8.
    require(facts.activations == "none" || facts.activations == facts.weights, "quantization.activations",
            facts.activations, "none or " + facts.weights + ", as the weights");
  }

  void check_files() const {
    for (const auto& [name, entry] : manifest_.files) {
      require(is_file_name(name), "files", name, "plain file names inside the bundle");
      require(entry.size >= 0, "files." + name + ".size", entry.size, "at least 0");
      require(is_sha256(entry.sha256), "files." + name + ".sha256", entry.sha256, "64 hex digits");
    }
  }

  void require_listed(const std::string& key, const std::optional<std::string>& name) const {
    if (name) require(manifest_.files.count(*name) != 0, key, *name, "a name listed in \"files\"");
  }

  void check_named_files() const {
    require_listed("tokenizer.file", manifest_.tokenizer.file);
    for (size_t n = 0; n < manifest_.graphs.size(); ++n) {
      require_listed("graphs[" + std::to_string(n) + "].file", manifest_.graphs[n].file);
    }
    for (const auto& [name, prompt] : manifest_.prompts) {
      const std::string key = "prompts." + name;
      for (const auto& [kv_type, file] : prompt.prefix.files) require_listed(key + ".prefix.files." + kv_type, file);
      require_listed(key + ".grammar", prompt.grammar);
      require_listed(key + ".phrases", prompt.phrases);
    }
  }

  // The data of one graph at least are there: those of others are derived from them.
  void check_data_files() const {
    Json named = Json::array();
    bool are_there = false;
    for (const GraphFacts& graph : manifest_.graphs) {
      if (!graph.data_file) continue;
      named.push_back(*graph.data_file);
      are_there |= manifest_.files.count(*graph.data_file) != 0;
    }
    require(named.empty() || are_there, "graphs[].data_file", named,
            "the data file of at least one graph listed in \"files\"");
  }

  void check_required() const {
    for (size_t n = 0; n < manifest_.graphs.size(); ++n) {
      const auto& domains = manifest_.graphs[n].required.domains;
      const std::string key = "graphs[" + std::to_string(n) + "].requires.domains";
      require(!domains.empty(), key, domains, "at least one operator domain");
      for (const auto& [domain, version] : domains) {
        require(version > 0, key + "." + domain, version, "a positive number");
      }
    }
  }

  void check_prompt(const std::string& key, const PromptFacts& prompt) const {
    require(!prompt.fields.empty(), key + ".fields", prompt.fields, "at least one field");
    for (const auto& [name, placeholder] : prompt.fields) {
      require(!placeholder.empty() && count(prompt.template_text, placeholder) == 1, key + ".template",
              prompt.template_text, "'" + (placeholder.empty() ? name : placeholder) + "' once");
    }
    require(are_apart(prompt), key + ".fields", prompt.fields, "placeholders that do not overlap");
    const std::string digest = sha256_hex(prompt.template_text);
    require(prompt.template_sha256 == digest, key + ".template_sha256", prompt.template_sha256, digest);
    require(!prompt.stop_ids.empty(), key + ".stop_ids", prompt.stop_ids, "at least one id");
    const int64_t limit = manifest_.model.vocab_size;
    for (const int32_t id : prompt.stop_ids) {
      require(0 <= id && id < limit, key + ".stop_ids", prompt.stop_ids, "ids below " + std::to_string(limit));
    }
    const int64_t length = prompt.prefix.num_tokens, context = manifest_.model.context_length;
    require(0 <= length && length < context, key + ".prefix.num_tokens", length,
            "0 to below model.context_length " + std::to_string(context));
    std::set<std::string> used;
    for (const GraphFacts& graph : manifest_.graphs) used.insert(graph.kv_type);
    for (const auto& [kv_type, file] : prompt.prefix.files) {
      require(used.count(kv_type) != 0, key + ".prefix.files", kv_type,
              "KV types of the graphs (" + joined(used.begin(), used.end()) + ")");
    }
  }

  static bool are_apart(const PromptFacts& prompt) {
    std::vector<std::pair<size_t, size_t>> spans;
    for (const auto& [name, placeholder] : prompt.fields) {
      const size_t start = prompt.template_text.find(placeholder);
      spans.emplace_back(start, start + placeholder.size());
    }
    std::sort(spans.begin(), spans.end());
    for (size_t n = 1; n < spans.size(); ++n) {
      if (spans[n - 1].second > spans[n].first) return false;
    }
    return true;
  }

  const Manifest& manifest_;
  const std::string& where_;
};

}  // namespace

void check_manifest(const Manifest& manifest, const std::string& where) { Rules(manifest, where).check(); }

}  // namespace rubricrm
