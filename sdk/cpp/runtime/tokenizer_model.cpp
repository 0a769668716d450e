#include "runtime/tokenizer_model.h"

#include <algorithm>
#include <array>

namespace rubricrm {
namespace {

// Merges whose tokens are looked up together.
constexpr size_t kBatch = 32;

// What Python calls the type of the value to come.
const char* type_name(JsonReader& json) {
  switch (json.peek()) {
    case '{':
      return "dict";
    case '[':
      return "list";
    case '"':
      return "str";
    case 'n':
      return "NoneType";
    case '0':
      return "number";
    default:
      return "bool";
  }
}

void read_vocabulary(JsonReader& json, size_t expected_tokens, TokenizerModel& model) {
  model.vocabulary = Vocabulary(expected_tokens);
  model.vocabulary_fault = {};
  if (json.peek() != '{') {
    model.vocabulary_fault = {type_name(json), "an object"};
    json.skip();
    return;
  }
  json.read_object([&](std::string_view text) {
    const auto id = json.read_integer();
    if (id && *id >= 0 && *id < Vocabulary::kMaxId) {
      model.vocabulary.add(text, static_cast<int32_t>(*id));
    } else if (id && *id >= Vocabulary::kMaxId) {
      model.vocabulary_fault = {"a map to " + std::to_string(*id), "ids below " + std::to_string(Vocabulary::kMaxId)};
    } else {
      model.vocabulary_fault = {"a map to something else", "a map from token to id, a number from 0"};
    }
  });
  if (!model.vocabulary.finish() && model.vocabulary_fault.got.empty()) {
    model.vocabulary_fault = {"ambiguous: two tokens share an id", "one token for an id"};
  }
}

// Either form in use: "a b", or ["a", "b"], which the library has written since its version 0.20.
void read_merge(JsonReader& json, TokenizerModel& model) {
  std::array<std::string_view, 2> pair;
  size_t count = 0;
  bool is_text = true;
  const auto take = [&](std::string_view part) {
    if (count < pair.size()) pair[count] = part;
    ++count;
  };
  if (json.peek() == '"') {
    std::string_view rest = json.read_string();
    for (size_t space; (space = rest.find(' ')) != std::string_view::npos; rest.remove_prefix(space + 1)) {
      take(rest.substr(0, space));
    }
    take(rest);
  } else if (json.peek() == '[') {
    json.read_array([&] {
      is_text = is_text && json.peek() == '"';
      take(json.peek() == '"' ? json.read_string() : json.skip());
    });
  } else {
    json.skip();
  }
  if (count != pair.size()) {
    model.merges_fault = {"malformed (a merge of " + std::to_string(count) + " parts)", "a list of pairs"};
  } else if (!is_text && model.merges_fault.got.empty()) {
    model.merges_fault = {"made of something else", "a list of pairs of tokens"};
  }
  model.merges.emplace_back(pair[0], pair[1]);
}

void read_merges(JsonReader& json, TokenizerModel& model) {
  model.merges.clear();
  model.merges_fault = {};
  if (json.peek() != '[') {
    model.merges_fault = {std::string("malformed (") + type_name(json) + ")", "a list of pairs"};
    json.skip();
    return;
  }
  json.read_array([&] { read_merge(json, model); });
}

}  // namespace

TokenizerModel read_tokenizer_model(JsonReader& json, size_t expected_tokens) {
  TokenizerModel model;
  model.merges.reserve(expected_tokens);
  model.vocabulary_fault = {"NoneType", "an object"};
  model.merges_fault = {"malformed (NoneType)", "a list of pairs"};
  json.read_object([&](std::string_view key) {
    if (key == "vocab") return read_vocabulary(json, expected_tokens, model);
    if (key == "merges") return read_merges(json, model);
    model.other_keys[std::string(key)] = json.skip();
  });
  return model;
}

MergeTable resolve_merges(const TokenizerModel& model, const std::vector<bool>& removed) {
  MergeTable table;
  table.reserve(model.merges.size());
  const Vocabulary& vocabulary = model.vocabulary;
  const auto is_removed = [&](int32_t id) { return id >= 0 && removed[static_cast<size_t>(id)]; };
  int32_t rank = 0, product = -1;
  std::string joined;
  std::array<std::array<uint32_t, 2>, kBatch> prepared;
  for (size_t begin = 0; begin < model.merges.size(); begin += kBatch) {
    const size_t count = std::min(kBatch, model.merges.size() - begin);
    for (size_t at = 0; at < count; ++at) {
      const auto& [left, right] = model.merges[begin + at];
      prepared[at] = {vocabulary.prepare(left), vocabulary.prepare(right)};
    }
    for (size_t at = 0; at < count; ++at) {
      const auto& [left, right] = model.merges[begin + at];
      const int32_t left_id = vocabulary.find(left, prepared[at][0]);
      const int32_t right_id = vocabulary.find(right, prepared[at][1]);
      joined.assign(left).append(right);
      // In most vocabularies ids follow merges: a guess spares the look-up.
      product = vocabulary.text(product + 1) == joined ? product + 1 : vocabulary.find(joined);
      if (is_removed(left_id) || is_removed(right_id) || is_removed(product)) continue;
      for (const auto& [id, text] :
           {std::pair(left_id, left), {right_id, right}, {product, std::string_view(joined)}}) {
        if (id < 0)
          throw UnknownToken("Error while initializing BPE: Token `" + std::string(text) + "` out of vocabulary");
      }
      table.add(left_id, right_id, {rank++, product});
    }
  }
  return table;
}

}  // namespace rubricrm
