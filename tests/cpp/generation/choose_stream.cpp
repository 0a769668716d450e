// What tests/native/test_choice_parity.py compares with Python: a request per line, as JSON, and an answer per line.
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "error.h"
#include "generation/completion.h"
#include "generation/constraint.h"
#include "generation/decision.h"
#include "generation/draft_desk.h"
#include "generation/grammar_file.h"
#include "generation/made_row.h"
#include "generation/phrase_file.h"
#include "generation/read_options.h"
#include "generation/repetition.h"

using namespace rubricrm;
using nlohmann::json;

namespace {

std::string bytes_of(const std::string& hex) {
  std::string bytes;
  for (size_t at = 0; at < hex.size(); at += 2) bytes += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  return bytes;
}

std::vector<float> row_of(const json& given) {
  if (given.is_array()) return given.get<std::vector<float>>();
  return made_row(
      {given["seed"], given["count"], given["scale"], given.value("levels", 0.0), given.value("peaks", int64_t{0})});
}

class Stream {
 public:
  json answer(const json& request) {
    const std::string what = request["do"];
    if (what == "texts") return take_texts(request);
    if (what == "grammar") return take_grammar(request);
    if (what == "refuse") return refuse(request);
    if (what == "choose") return choose(request);
    if (what == "weights") return weights(request);
    if (what == "logprobs") return list_logprobs(request);
    if (what == "options") return check_options(request);
    if (what == "walk") return walk(request);
    if (what == "revise") return revise(request);
    if (what == "repetition") return repetition(request);
    if (what == "complete") return complete(request);
    if (what == "learn") return learn(request);
    if (what == "draft") return draft(request);
    if (what == "plan") return plan(request);
    throw std::runtime_error("no such request: " + what);
  }

 private:
  json take_texts(const json& request) {
    for (const json& hex : request["bytes"]) bytes_.push_back(bytes_of(hex.get<std::string>()));
    for (int32_t id : request["special"]) special_[id] = true;
    spelled_ = request["numbers"].get<std::vector<TokenIds>>();
    texts_.num_tokens = static_cast<int32_t>(bytes_.size());
    texts_.token_bytes = [this](int32_t id) { return id < texts_.num_tokens ? bytes_[id] : std::string(); };
    texts_.text_bytes = [this](int32_t id) { return special_.count(id) ? std::string() : texts_.token_bytes(id); };
    texts_.encode = [this](std::string_view number) { return spelled_[std::stoi(std::string(number))]; };
    numbers_ = std::make_unique<ItemNumbers>(texts_);
    return nullptr;
  }

  json take_grammar(const json& request) {
    grammar_ = std::make_unique<Grammar>(
        load_grammar(request["path"].get<std::string>(), request["num_tokens"], request["stop_ids"].get<TokenIds>()));
    return grammar_->num_states();
  }

  json refuse(const json& request) {
    try {
      return take_grammar(request);
    } catch (const Error& error) {
      return std::string(code_name(error.code())) + ": " + error.what();
    }
  }

  json choose(const json& request) {
    const std::vector<float> row = row_of(request["row"]);
    return sampler_.choose(row.data(), static_cast<int64_t>(row.size()), read_options(request["options"]),
                           request["seed"], request["index"]);
  }

  json weights(const json& request) {
    const std::vector<float> row = row_of(request["row"]);
    const Weights& found =
        sampler_.weights(row.data(), static_cast<int64_t>(row.size()), read_options(request["options"]));
    return {found.ids, found.weights};
  }

  json list_logprobs(const json& request) {
    const std::vector<float> row = row_of(request["row"]);
    const TokenLogprobs found =
        logprobs(row.data(), static_cast<int64_t>(row.size()), request["token_id"], request["num_top"]);
    return {found.logprob, found.top};
  }

  json check_options(const json& request) {
    try {
      read_options(request["options"]).check();
    } catch (const Error& error) {
      return std::string(code_name(error.code())) + ": " + error.what();
    }
    return nullptr;
  }

  json walk(const json& request) {
    int32_t state = Grammar::kStart;
    json found = json::array();
    std::vector<int32_t> words(grammar_->mask_words());
    for (int32_t token_id : request["tokens"]) {
      for (int64_t left : request["left"]) {
        grammar_->write_mask(state, left, words.data());
        uint64_t hash = 0;
        for (int32_t word : words) hash = hash * 31 + static_cast<uint32_t>(word);
        found.push_back({state, grammar_->shortest(state), hash, grammar_->is_allowed(state, token_id, left),
                         grammar_->forced(state, 9), grammar_->forced(state, 3, true)});
      }
      const int32_t following = grammar_->next(state, token_id);
      if (following <= Grammar::kEnd) break;
      state = following;
    }
    return found;
  }

  // A whole text in the grammar, each token from a row of its own.
  json revise(const json& request) {
    const GenerationOptions options = read_options(request["options"]);
    const uint64_t seed = request["seed"];
    int64_t left = request["tokens_left"];
    const auto constraint = constrain(grammar_.get(), left);
    TokenIds tokens;
    while (constraint != nullptr && left > 0 && constraint->state() != Grammar::kEnd) {
      const uint64_t index = tokens.size();
      const std::vector<float> row =
          made_row({seed + index, grammar_->num_tokens(), request["scale"], 0.0, request["peaks"]});
      const int64_t count = grammar_->num_tokens();
      const Decision decision{row.data(), count, count, largest(row.data(), count), seed, index, left--};
      tokens.push_back(next_token(decision, options, constraint.get(), sampler_));
    }
    if (constraint == nullptr) return nullptr;
    return {tokens, constraint->overrules().count, constraint->overrules().probability};
  }

  json repetition(const json& request) {
    RepetitionDetector detector(texts_);
    json found = json::array();
    int64_t at = 0;
    for (int32_t token_id : request["tokens"]) {
      if (detector.push(token_id)) found.push_back(at);
      ++at;
    }
    return found;
  }

  json complete(const json& request) {
    Completion completion(texts_, read_options(request["options"]));
    json pieces = json::array();
    for (int32_t token_id : request["tokens"]) {
      const Completion::Step step = completion.push(token_id);
      pieces.push_back({step.text, finish_reason_name(step.reason)});
    }
    const Completion::End end = completion.finish(request["is_whole"]);
    return {pieces, end.text, end.found_stop};
  }

  json learn(const json& request) {
    std::string warning;
    table_ = std::make_unique<PhraseTable>(*numbers_, request["most_entries"].get<int64_t>());
    if (request.contains("load")) {
      LoadedPhrases loaded =
          load_phrases(request["load"].get<std::string>(), *numbers_, request["sha256"], request["most_entries"]);
      table_ = std::move(loaded.table);
      warning = loaded.warning;
    }
    for (const json& tokens : request["texts"]) table_->learn(tokens.get<TokenIds>());
    if (request.contains("save")) save_phrases(*table_, request["save"].get<std::string>(), request["sha256"]);
    json entries = json::array();
    for (const auto& [context, symbol, hits, occurrences] : table_->entries()) {
      entries.push_back({context, int64_t{symbol} << 8 | int64_t{hits} << 4 | occurrences});
    }
    return {entries, warning};
  }

  // The drafts of a text, token by token; those that come true are told to the drafter.
  json draft(const json& request) {
    Drafter drafter(request["prompt"].get<TokenIds>(), *numbers_, request["phrases"] ? table_.get() : nullptr);
    const Grammar* rules = request["constrain"] ? grammar_.get() : nullptr;
    const TokenIds text = request["text"].get<TokenIds>();
    int32_t state = Grammar::kStart;
    json found = json::array();
    for (size_t at = 0; at < text.size(); ++at) {
      const Draft draft = drafter.propose(request["limit"], rules, state);
      found.push_back({draft.token_ids, draft.grades, draft.chances, drafter.credit()});
      int64_t accepted = 0;
      while (accepted < draft.size() && at + accepted < text.size() &&
             draft.token_ids[accepted] == text[at + accepted]) {
        ++accepted;
      }
      drafter.settle(draft, draft.size(), accepted, 0.2 * static_cast<double>(draft.size()));
      drafter.push(text[at]);
      if (rules != nullptr) state = rules->next(state, text[at]);
    }
    return found;
  }

  json plan(const json& request) {
    std::map<int64_t, double> measured;
    for (const auto& [rows, seconds] : request["cost"].items()) measured[std::stoll(rows)] = seconds;
    std::vector<Draft> drafts;
    for (const json& chances : request["chances"]) {
      const std::vector<double> list = chances.get<std::vector<double>>();
      drafts.push_back({TokenIds(list.size()), std::vector<int>(list.size()), list});
    }
    const DraftPlan plan = plan_drafts(drafts, request["credits"].get<std::vector<double>>(), StepCost(measured),
                                       request["rows_left"], request["other_rows"]);
    return {plan.lengths, plan.prices};
  }

  std::vector<std::string> bytes_;
  std::map<int32_t, bool> special_;
  std::vector<TokenIds> spelled_;
  TokenTexts texts_;
  std::unique_ptr<ItemNumbers> numbers_;
  std::unique_ptr<Grammar> grammar_;
  std::unique_ptr<PhraseTable> table_;
  Sampler sampler_;
};

}  // namespace

int main() {
  Stream stream;
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << stream.answer(json::parse(line)).dump() << std::endl;
  }
}
