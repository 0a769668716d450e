#include "runtime/tokenizer_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "error.h"
#include "runtime/byte_alphabet.h"
#include "runtime/tokenizer_model.h"
#include "text/json_reader.h"

namespace rubricrm {
namespace {

using nlohmann::json;
using Rule = PreTokenizer::Rule;

constexpr const char* kRemedy = "Export the bundle from a checkpoint with a byte-level BPE tokenizer, as Qwen3 has.";
// No tokenizer is larger, and its texts are counted in 32 bits.
constexpr size_t kMaxBytes = size_t{1} << 30;
// About what a token of a vocabulary and its merge take in a file.
constexpr size_t kBytesOfToken = 64;
const json kNone;

std::string quoted(const std::string& text) { return "'" + text + "'"; }

// A value as Python's repr gives it, where it is a text, None or a number.
std::string shown(const json& value) {
  if (value.is_string()) return quoted(value.get<std::string>());
  return value.is_null() ? "None" : value.dump();
}

const char* python_type(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "NoneType";
    case json::value_t::object:
      return "dict";
    case json::value_t::array:
      return "list";
    case json::value_t::string:
      return "str";
    case json::value_t::boolean:
      return "bool";
    case json::value_t::number_float:
      return "float";
    default:
      return "int";
  }
}

// Whether Python takes it for true.
bool is_true(const json& value) {
  if (value.is_number()) return value != 0;
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return value.is_boolean() ? value.get<bool>() : !value.empty();
}

// A key of an object; null where it is missing, or where there is no object.
const json& member(const json& object, const char* key) {
  if (!object.is_object()) return kNone;
  const auto found = object.find(key);
  return found == object.end() ? kNone : *found;
}

// A component of the file, with the members of a Sequence in its place.
void flatten(const json& component, const char* members, std::vector<const json*>& flat) {
  if (!component.is_object()) return;
  if (member(component, "type") != "Sequence") {
    flat.push_back(&component);
    return;
  }
  if (!member(component, members).is_array()) return;
  for (const json& part : member(component, members)) flatten(part, members, flat);
}

std::string types_of(const std::vector<const json*>& components) {
  std::string types;
  for (const json* component : components) types += (types.empty() ? "" : ", ") + shown(member(*component, "type"));
  return types.empty() ? "None" : "[" + types + "]";
}

bool is_byte_level(const json* component) { return member(*component, "type") == "ByteLevel"; }

// Judges the sections of one document, in the order of tokenizer_file.py.
class Judge {
 public:
  Judge(std::string_view contents, const std::string& path)
      : path_(path), contents_size_(contents.size()), reader_(contents) {}

  TokenizerFile read() {
    read_document();
    check_byte_level();
    check_model();
    std::vector<AddedToken> added = checked_added_tokens();
    TokenizerFile file;
    file.composes = checked_normalizer();
    file.pre_tokenizer = checked_pre_tokenizer();
    file.ignores_merges = is_true(model_key("ignore_merges"));
    file.num_tokens = model_.vocabulary.end_of_ids();
    file.is_added.resize(static_cast<size_t>(file.num_tokens));
    for (const AddedToken& token : added) {
      if (model_.vocabulary.find(token.content) >= 0) file.is_added[static_cast<size_t>(token.id)] = true;
      file.num_tokens = std::max(file.num_tokens, token.id + 1);
    }
    for (size_t byte = 0; byte < file.byte_ids.size(); ++byte) {
      const int32_t id = model_.vocabulary.find(byte_character(static_cast<uint8_t>(byte)));
      file.byte_ids[byte] = id >= 0 && file.is_added[static_cast<size_t>(id)] ? -1 : id;
    }
    file.merges = resolved_merges(file.is_added);
    file.added = AddedTokens(std::move(added), file.composes);
    file.vocabulary = std::move(model_.vocabulary);
    if (!file.ignores_merges) file.vocabulary.drop_index();
    return file;
  }

 private:
  [[noreturn]] void fault(const std::string& where, const std::string& got, const std::string& expected,
                          const std::string& remedy = kRemedy) const {
    throw Error(Code::BUNDLE_INVALID, path_ + ": " + where + " is " + got + ", expected " + expected + ". " + remedy);
  }

  const json& section(const char* key) const { return member(document_, key); }
  const json& model_key(const char* key) const { return member(section("model"), key); }

  void read_document() {
    try {
      if (reader_.peek() != '{') {
        document_ = json::parse(reader_.skip());
      } else {
        reader_.read_object([this](std::string_view key) { read_section(key); });
      }
      reader_.finish();
    } catch (const JsonError& error) {
      fault("the file", std::string("no JSON (") + error.what() + ")", "a tokenizer.json");
    } catch (const json::exception& error) {
      fault("the file", std::string("no JSON (") + error.what() + ")", "a tokenizer.json");
    }
    if (!document_.is_object()) fault("the file", std::string("a JSON ") + python_type(document_), "an object");
  }

  void read_section(std::string_view key) {
    json& value = document_[std::string(key)];
    if (key != "model" || reader_.peek() != '{') {
      value = json::parse(reader_.skip());
      return;
    }
    model_ = read_tokenizer_model(reader_, contents_size_ / kBytesOfToken);
    value = json::object();
    for (const auto& [name, text] : model_.other_keys) value[name] = json::parse(text);
  }

  void check_byte_level() const {
    std::vector<const json*> before, after;
    flatten(section("pre_tokenizer"), "pretokenizers", before);
    if (std::count_if(before.begin(), before.end(), is_byte_level) != 1) {
      fault("\"pre_tokenizer\"", types_of(before), "ByteLevel, or a Sequence with one");
    }
    flatten(section("decoder"), "decoders", after);
    if (after.size() != 1 || !is_byte_level(after[0])) fault("\"decoder\"", types_of(after), "ByteLevel alone");
  }

  void check_model() const {
    if (!section("model").is_object()) fault("\"model\"", python_type(section("model")), "an object");
    if (model_key("type") != "BPE") fault("\"model.type\"", shown(model_key("type")), "'BPE'");
    for (const auto& [key, why] : {std::pair("dropout", "encoding would be random"),
                                   {"continuing_subword_prefix", "tokens would not be bytes"},
                                   {"end_of_word_suffix", "tokens would not be bytes"}}) {
      if (is_true(model_key(key))) {
        fault(std::string("\"model.") + key + "\"", shown(model_key(key)), std::string("null, or ") + why);
      }
    }
    for (const auto& [key, found] : {std::pair("vocab", model_.vocabulary_fault), {"merges", model_.merges_fault}}) {
      if (!found.got.empty()) fault(std::string("\"model.") + key + "\"", found.got, found.expected);
    }
  }

  std::vector<AddedToken> checked_added_tokens() const {
    std::vector<AddedToken> added;
    if (!is_true(section("added_tokens"))) return added;
    if (!section("added_tokens").is_array()) fault("\"added_tokens\"", python_type(section("added_tokens")), "a list");
    auto next_id = static_cast<int32_t>(model_.vocabulary.size());
    std::set<std::string> seen;
    for (const json& token : section("added_tokens")) {
      const std::string where = "\"added_tokens[" + std::to_string(added.size()) + "]";
      check_added_token(token, where);
      const std::string& text = token["content"].get_ref<const std::string&>();
      if (!seen.insert(text).second) fault(where + ".content\"", quoted(text) + " again", "a text once");
      // The library ignores the id in the file and counts on from the vocabulary: both must mean the same token.
      const int32_t known = model_.vocabulary.find(text), expected = known >= 0 ? known : next_id;
      if (token["id"] != expected || (known < 0 && model_.vocabulary.has(expected))) {
        fault(where + ".id\"", shown(token["id"]),
              std::to_string(expected) + ", the id that tokenizers gives " + quoted(text) + ", used once");
      }
      next_id += known < 0;
      added.push_back({text, expected, is_true(member(token, "special")), is_true(member(token, "normalized"))});
    }
    return added;
  }

  void check_added_token(const json& token, const std::string& where) const {
    const json &content = member(token, "content"), &id = member(token, "id");
    if (!content.is_string() || !id.is_number_integer()) {
      fault(where + "\"", token.dump(), "an object with \"id\" and \"content\"");
    }
    const std::string& text = content.get_ref<const std::string&>();
    if (text.empty()) fault(where + ".content\"", "empty", "a text");
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      if (!is_true(member(token, flag))) continue;
      fault(where + "." + flag + "\"", "true", "false: a control token is exactly its text",
            std::string("Set \"") + flag +
                "\" to false, which changes nothing where the template has no white space or word beside it.");
    }
    // Only then is the text beside such a token the same before normalizing and after.
    const json& normalizer = section("normalizer");
    const bool is_ascii = std::all_of(text.begin(), text.end(), [](unsigned char byte) { return byte < 0x80; });
    const bool is_kept = normalizer.is_null() || (normalizer == json{{"type", "NFC"}} && is_ascii);
    if (is_true(member(token, "normalized")) && !is_kept) {
      fault(where + ".normalized\"", "true", "false, or an ASCII token and the normalizer NFC",
            "Set \"normalized\" to false: the token is then looked for in the text as it is.");
    }
  }

  // Whether text is normalized to form C.
  bool checked_normalizer() const {
    const json& normalizer = section("normalizer");
    if (normalizer.is_null()) return false;
    if (member(normalizer, "type") == "NFC") return true;
    fault("\"normalizer\"", normalizer.dump(), "null or NFC, which are known to librubricrm");
  }

  PreTokenizer checked_pre_tokenizer() const {
    std::vector<const json*> components;
    flatten(section("pre_tokenizer"), "pretokenizers", components);
    std::vector<Rule> rules;
    for (const json* component : components) {
      const bool is_last = component == components.back();
      if (is_byte_level(component) != is_last || !add_rule(*component, rules)) {
        fault(
            "\"pre_tokenizer\"", "with " + component->dump(),
            "Split by the expression of Qwen3 or Llama 3, or Digits, then ByteLevel without add_prefix_space: what is "
            "known to librubricrm");
      }
    }
    return PreTokenizer(std::move(rules));
  }

  // Adds what a component does; false if that is not known here.
  static bool add_rule(const json& component, std::vector<Rule>& rules) {
    const json& type = member(component, "type");
    if (type == "ByteLevel") {
      if (member(component, "use_regex") != false) rules.push_back(Rule::GPT2);
      return member(component, "add_prefix_space") == false;
    }
    if (type == "Digits") {
      const json& individual = member(component, "individual_digits");
      rules.push_back(individual == true ? Rule::DIGITS : Rule::DIGIT_GROUPS);
      return individual.is_boolean();
    }
    const json& expression = member(member(component, "pattern"), "Regex");
    if (type != "Split" || !expression.is_string()) return false;
    const auto rule = PreTokenizer::split_rule(expression.get_ref<const std::string&>());
    if (rule) rules.push_back(*rule);
    return rule && member(component, "behavior") == "Isolated" && member(component, "invert") == false;
  }

  MergeTable resolved_merges(const std::vector<bool>& is_added) const {
    try {
      return resolve_merges(model_, is_added);
    } catch (const UnknownToken& error) {
      fault("the tokenizer", std::string("refused: ") + error.what(), "merges of tokens that \"model.vocab\" has");
    }
  }

  const std::string path_;
  const size_t contents_size_;
  JsonReader reader_;
  json document_ = json::object();
  TokenizerModel model_;
};

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view contents, const std::string& path) {
  return Judge(contents, path).read();
}

TokenizerFile read_tokenizer_file(const std::string& path) {
  const auto unreadable = [&](const std::string& why) {
    return Error(Code::BUNDLE_INVALID,
                 path + ": the file is unreadable (" + why + "), expected a tokenizer.json. " + kRemedy);
  };
  const std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "rb"));
  struct stat facts;
  if (!file || fstat(fileno(file.get()), &facts) != 0) throw unreadable(std::strerror(errno));
  if (S_ISDIR(facts.st_mode)) throw unreadable(std::strerror(EISDIR));
  const auto size = static_cast<size_t>(facts.st_size);
  if (size > kMaxBytes) throw unreadable("more than " + std::to_string(kMaxBytes) + " bytes");
  const std::unique_ptr<char[]> contents(new char[size]);  // not zeroed first, as a vector's
  const size_t count = std::fread(contents.get(), 1, size, file.get());
  if (std::ferror(file.get())) throw unreadable(std::strerror(errno));
  return parse_tokenizer_file({contents.get(), count}, path);
}

}  // namespace rubricrm
