// Runs tests/cases/sampling and tests/cases/grammar, as pytest does.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "expect.h"
#include "generation/grammar_file.h"
#include "generation/made_row.h"
#include "generation/read_options.h"
#include "generation/sampling.h"
#include "runtime/sha256.h"

using namespace rubricrm;
using nlohmann::json;

namespace {

const std::filesystem::path kCases = RUBRICRM_CASES;

std::vector<json> cases_of(const char* folder) {
  std::vector<json> cases;
  for (const auto& entry : std::filesystem::directory_iterator(kCases / folder)) {
    if (entry.path().extension() != ".json") continue;
    cases.push_back(json::parse(std::ifstream(entry.path())));
    cases.back()["name"] = entry.path().stem().string();
  }
  EXPECT(!cases.empty(), "no case in %s", folder);
  return cases;
}

std::vector<float> row_of(const json& row) {
  if (row.is_object()) {
    return made_row(
        {row["seed"], row["count"], row["scale"], row.value("levels", 0.0), row.value("peaks", int64_t{0})});
  }
  std::vector<float> logits;
  for (const json& value : row) {
    logits.push_back(value.is_null() ? -std::numeric_limits<float>::infinity() : value.get<float>());
  }
  return logits;
}

void check_logprobs(const std::string& name, const std::vector<float>& row, const json& expected) {
  const auto top = expected["top"].get<std::vector<std::pair<int32_t, double>>>();
  const TokenLogprobs found =
      logprobs(row.data(), static_cast<int64_t>(row.size()), expected["token_id"], static_cast<int64_t>(top.size()));
  EXPECT(std::abs(found.logprob - expected["logprob"].get<double>()) < 1e-12, "%s", name.c_str());
  EXPECT(found.top.size() == top.size(), "%s", name.c_str());
  for (size_t n = 0; n < found.top.size(); ++n) {
    EXPECT(found.top[n].first == top[n].first, "%s: alternative %zu", name.c_str(), n);
    EXPECT(std::abs(found.top[n].second - top[n].second) < 1e-12, "%s: alternative %zu", name.c_str(), n);
  }
}

void check_sampling(const json& given) {
  const std::string name = given["name"];
  const std::vector<float> row = row_of(given["row"]);
  const int64_t count = static_cast<int64_t>(row.size());
  const GenerationOptions options = read_options(given["options"]);
  const uint64_t seed = given["seed"];
  Sampler sampler;
  uint64_t index = 0;
  for (int32_t expected : given["tokens"]) {
    const int32_t found = sampler.choose(row.data(), count, options, seed, index);
    EXPECT(found == expected, "%s: token %d of draw %d, expected %d", name.c_str(), found, static_cast<int>(index),
           expected);
    ++index;
  }
  if (given.contains("ids")) {
    const Weights& found = sampler.weights(row.data(), count, options);
    EXPECT(found.ids == given["ids"].get<std::vector<int32_t>>(), "%s", name.c_str());
    EXPECT(found.weights == given["weights"].get<std::vector<int64_t>>(), "%s", name.c_str());
  }
  for (size_t n = 0; given.contains("uniform") && n < given["uniform"].size(); ++n) {
    EXPECT(uniform(seed, n) == given["uniform"][n].get<uint64_t>(), "%s: number %zu", name.c_str(), n);
  }
  if (given.contains("logprobs")) check_logprobs(name, row, given["logprobs"]);
}

std::string mask_hash(const Grammar& grammar, int32_t state, int64_t tokens_left) {
  std::vector<int32_t> words(grammar.mask_words());
  grammar.write_mask(state, tokens_left, words.data());
  return sha256_hex({reinterpret_cast<const char*>(words.data()), words.size() * sizeof(int32_t)});
}

void check_grammar_case(const Grammar& grammar, const json& given) {
  const std::string name = given["name"];
  const auto tokens = given["tokens"].get<TokenIds>();
  const auto states = given["states"].get<std::vector<int32_t>>();
  for (size_t n = 0; n < states.size(); ++n) {
    if (n < tokens.size()) EXPECT(grammar.next(states[n], tokens[n]) == states[n + 1], "%s: %zu", name.c_str(), n);
    EXPECT(grammar.shortest(states[n]) == given["shortest"][n].get<int32_t>(), "%s: %zu", name.c_str(), n);
    EXPECT(grammar.forced(states[n], 9) == given["forced"][n].get<TokenIds>(), "%s: %zu", name.c_str(), n);
    for (const auto& [left, hashes] : given["masks"].items()) {
      const std::string found = mask_hash(grammar, states[n], std::stoll(left));
      EXPECT(found == hashes[n].get<std::string>(), "%s: mask %zu for %s tokens", name.c_str(), n, left.c_str());
    }
  }
}

}  // namespace

int main() {
  for (const json& given : cases_of("sampling")) check_sampling(given);
  const std::filesystem::path demo = kCases / "../../sdk/python/rubricrm/demo_bundle";
  const json manifest = json::parse(std::ifstream(demo / "rubricrm.json"));
  const Grammar grammar = load_grammar(demo / "grammar.npz", manifest["tokenizer"]["num_tokens"],
                                       manifest["prompts"]["rubric"]["stop_ids"].get<TokenIds>());
  for (const json& given : cases_of("grammar")) check_grammar_case(grammar, given);
  return failures != 0;
}
