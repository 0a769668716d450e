#include "runtime/manifest_reader.h"

#include <initializer_list>

#include "error.h"
#include "runtime/json_document.h"
#include "runtime/manifest_rules.h"

namespace rubricrm {
namespace {

constexpr int64_t kExactInDouble = int64_t{1} << 53;

// A value of the document, with its key's whole path.
class Node {
 public:
  Node(const Json& value, const std::string& where, std::string key)
      : value_(value), where_(where), key_(std::move(key)) {}

  // The members of an object that has exactly these keys.
  void require_keys(std::initializer_list<const char*> names, bool is_open = false) const {
    expect(value_.is_object(), "dict");
    for (const char* name : names) {
      if (value_.contains(name)) continue;
      fail("\"" + prefix() + name + "\" is missing. Export the bundle again.");
    }
    for (const auto& member : value_.items()) {
      bool is_known = false;
      for (const char* name : names) is_known |= member.key() == name;
      if (is_known) continue;
      fail("\"" + prefix() + member.key() + "\" is not a key of format " + std::to_string(kFormatVersion) +
           (is_open ? "; keys of your own belong under \"extensions\"" : "") + ". Remove it.");
    }
  }

  Node operator[](const char* name) const { return Node(value_[name], where_, prefix() + name); }

  std::string text() const {
    expect(value_.is_string(), "str");
    return value_.get<std::string>();
  }

  int64_t integer() const {
    expect(value_.is_number_integer(), "int");
    expect(!value_.is_number_unsigned() || value_.get<uint64_t>() <= INT64_MAX, "an int of 64 bits");
    return value_.get<int64_t>();
  }

  double number() const {
    if (value_.is_number_integer()) {  // beyond, a float is another number
      const int64_t whole = integer();
      expect(-kExactInDouble <= whole && whole <= kExactInDouble, "float");
      return static_cast<double>(whole);
    }
    expect(value_.is_number_float(), "float");
    return value_.get<double>();
  }

  bool boolean() const {
    expect(value_.is_boolean(), "bool");
    return value_.get<bool>();
  }

  void expect_object() const { expect(value_.is_object(), "dict"); }
  bool is_null() const { return value_.is_null(); }

  std::optional<std::string> optional_text() const {
    return is_null() ? std::nullopt : std::optional<std::string>(text());
  }

  // An object whose keys are names.
  template <class Read>
  auto map(Read read) const {
    expect(value_.is_object(), "dict");
    std::map<std::string, decltype(read(*this))> result;
    for (const auto& member : value_.items()) {
      result.emplace(member.key(), read(Node(member.value(), where_, key_ + "." + member.key())));
    }
    return result;
  }

  template <class Read>
  auto list(Read read) const {
    expect(value_.is_array(), "list");
    std::vector<decltype(read(*this))> result;
    for (const Json& item : value_) {
      result.push_back(read(Node(item, where_, key_ + "[" + std::to_string(result.size()) + "]")));
    }
    return result;
  }

  void expect(bool condition, const char* expected) const {
    if (!condition) {
      fail("\"" + key_ + "\" is " + python_text(value_, 60) + ", expected " + expected + ". Export the bundle again.");
    }
  }

 private:
  std::string prefix() const { return key_.empty() ? "" : key_ + "."; }

  [[noreturn]] void fail(const std::string& what) const { throw Error(Code::BUNDLE_INVALID, where_ + ": " + what); }

  const Json& value_;
  const std::string& where_;
  std::string key_;
};

std::string read_text(const Node& node) { return node.text(); }

ModelFacts read_model(const Node& node) {
  node.require_keys({"name", "architecture", "license", "num_parameters", "hidden_size", "intermediate_size",
                     "num_layers", "num_heads", "num_kv_heads", "head_dim", "vocab_size", "context_length"});
  ModelFacts facts;
  facts.name = node["name"].text();
  facts.architecture = node["architecture"].text();
  facts.license = node["license"].optional_text();
  facts.num_parameters = node["num_parameters"].integer();
  facts.hidden_size = node["hidden_size"].integer();
  facts.intermediate_size = node["intermediate_size"].integer();
  facts.num_layers = node["num_layers"].integer();
  facts.num_heads = node["num_heads"].integer();
  facts.num_kv_heads = node["num_kv_heads"].integer();
  facts.head_dim = node["head_dim"].integer();
  facts.vocab_size = node["vocab_size"].integer();
  facts.context_length = node["context_length"].integer();
  return facts;
}

RequiredFacts read_required(const Node& node) {
  node.require_keys({"domains", "library"});
  return {node["domains"].map([](const Node& version) { return version.integer(); }), node["library"].optional_text()};
}

GraphFacts read_graph(const Node& node) {
  node.require_keys(
      {"file", "data_file", "layout", "target", "kv_update", "kv_type", "compute_type", "requires", "extensions"},
      true);
  GraphFacts facts;
  facts.file = node["file"].text();
  facts.data_file = node["data_file"].optional_text();
  facts.layout = node["layout"].text();
  facts.target = node["target"].text();
  facts.kv_update = node["kv_update"].text();
  facts.kv_type = node["kv_type"].text();
  facts.compute_type = node["compute_type"].text();
  facts.required = read_required(node["requires"]);
  node["extensions"].expect_object();
  return facts;
}

QuantizationFacts read_quantization(const Node& node) {
  node.require_keys({"weights", "activations", "method"});
  return {node["weights"].text(), node["activations"].text(), node["method"].text()};
}

TokenizerFacts read_tokenizer(const Node& node) {
  node.require_keys({"file", "num_tokens"});
  return {node["file"].text(), node["num_tokens"].integer()};
}

RoleFacts read_role(const Node& node) {
  node.require_keys({"before", "after"});
  return {node["before"].text(), node["after"].text()};
}

std::optional<RoleFacts> read_optional_role(const Node& node) {
  return node.is_null() ? std::nullopt : std::optional<RoleFacts>(read_role(node));
}

ChatFacts read_chat(const Node& node) {
  node.require_keys({"opening", "system", "user", "assistant", "generation", "starts_in_thought"});
  ChatFacts facts;
  facts.opening = node["opening"].text();
  facts.system = read_optional_role(node["system"]);
  facts.user = read_role(node["user"]);
  facts.assistant = read_optional_role(node["assistant"]);
  facts.generation = node["generation"].text();
  facts.starts_in_thought = node["starts_in_thought"].boolean();
  return facts;
}

// Ids that no vocabulary has become -1, which the rules refuse as they refuse the id itself.
int32_t read_id(const Node& node) {
  const int64_t id = node.integer();
  return 0 <= id && id <= INT32_MAX ? static_cast<int32_t>(id) : -1;
}

PromptFacts read_prompt(const Node& node) {
  node.require_keys({"fields", "template", "template_sha256", "template_source", "stop_ids", "prefix", "grammar",
                     "phrases", "extensions"},
                    true);
  PromptFacts facts;
  facts.fields = node["fields"].map(read_text);
  facts.template_text = node["template"].text();
  facts.template_sha256 = node["template_sha256"].text();
  facts.template_source = node["template_source"].text();
  facts.stop_ids = node["stop_ids"].list(read_id);
  const Node prefix = node["prefix"];
  prefix.require_keys({"num_tokens", "files"});
  facts.prefix = {prefix["num_tokens"].integer(), prefix["files"].map(read_text)};
  facts.grammar = node["grammar"].optional_text();
  facts.phrases = node["phrases"].optional_text();
  node["extensions"].expect_object();
  return facts;
}

FileFacts read_file_facts(const Node& node) {
  node.require_keys({"size", "sha256"});
  return {node["size"].integer(), node["sha256"].text()};
}

ProvenanceFacts read_provenance(const Node& node) {
  node.require_keys({"source", "tools", "command"});
  const Node source = node["source"];
  source.require_keys({"repo", "commit", "files"});
  return {{source["repo"].optional_text(), source["commit"].optional_text(), source["files"].map(read_file_facts)},
          node["tools"].map(read_text),
          node["command"].text()};
}

Manifest read_document(const Node& node) {
  node.require_keys({"model", "graphs", "quantization", "tokenizer", "chat", "prompts", "generation", "files",
                     "provenance", "quality", "extensions", "format", "format_version"},
                    true);
  Manifest manifest;
  manifest.model = read_model(node["model"]);
  manifest.graphs = node["graphs"].list(read_graph);
  manifest.quantization = read_quantization(node["quantization"]);
  manifest.tokenizer = read_tokenizer(node["tokenizer"]);
  manifest.chat = read_chat(node["chat"]);
  manifest.prompts = node["prompts"].map(read_prompt);
  node["generation"].require_keys({"max_new_tokens"});
  manifest.max_new_tokens = node["generation"]["max_new_tokens"].integer();
  manifest.files = node["files"].map(read_file_facts);
  manifest.provenance = read_provenance(node["provenance"]);
  if (!node["quality"].is_null()) {
    manifest.quality = node["quality"].map([](const Node& figure) { return figure.number(); });
  }
  node["extensions"].expect_object();
  node["format_version"].integer();
  return manifest;
}

Json parse(std::string_view text, const std::string& where) {
  Json document;
  try {
    document = parse_json(text);
  } catch (const std::runtime_error& error) {
    throw Error(Code::BUNDLE_INVALID, where + ": not JSON (" + error.what() + "). Export the bundle again.");
  }
  if (!document.is_object() || !document.contains("format") || document["format"] != kBundleFormat) {
    throw Error(Code::BUNDLE_INVALID,
                where + ": \"format\" is not \"" + kBundleFormat + "\": this is no manifest of a rubricrm bundle.");
  }
  const Json version = document.value("format_version", Json());
  if (!version.is_number() || version != kFormatVersion) {
    const bool is_newer = version.is_number_integer() && version > kFormatVersion;
    throw Error(Code::BUNDLE_VERSION_UNSUPPORTED,
                where + ": \"format_version\" is " + python_text(version) + ", this rubricrm reads " +
                    std::to_string(kFormatVersion) + ". " +
                    (is_newer ? "Upgrade rubricrm." : "Export the bundle again with this version."));
  }
  return document;
}

}  // namespace

Manifest read_manifest(std::string_view text, const std::string& where) {
  const Json document = parse(text, where);
  Manifest manifest = read_document(Node(document, where, ""));
  check_manifest(manifest, where);
  return manifest;
}

}  // namespace rubricrm
