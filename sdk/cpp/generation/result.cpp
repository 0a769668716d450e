#include "generation/result.h"

#include <cmath>

#include "rubric/rubric_json.h"
#include "text/json_text.h"

namespace rubricrm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSchemaVersion = 1;

// To the microsecond, as Python rounds.
double milliseconds(Time start, Time end) {
  return std::nearbyint(std::chrono::duration<double, std::micro>(end - start).count()) / 1e3;
}

Timings timings_of(const Sequence::Times& times, Time tokenized) {
  const Time ended = times.ended.value_or(times.started);
  Timings timings;
  timings.tokenize = milliseconds(times.started, tokenized);
  if (times.admitted && times.prefilled) timings.prefill = milliseconds(*times.admitted, *times.prefilled);
  if (times.first_token) {
    timings.first_token = milliseconds(times.started, *times.first_token);
    timings.decode = milliseconds(*times.first_token, ended);
  }
  timings.total = milliseconds(times.started, ended);
  return timings;
}

Json json_of(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"cached_prompt_tokens", usage.cached_prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"drafted_tokens", usage.drafted_tokens},
          {"accepted_tokens", usage.accepted_tokens}};
}

Json json_of(const Timings& timings) {
  return {{"tokenize", timings.tokenize},
          {"prefill", timings.prefill},
          {"first_token", timings.first_token ? Json(*timings.first_token) : Json(nullptr)},
          {"decode", timings.decode},
          {"total", timings.total}};
}

Json json_of(const std::optional<std::vector<TokenLogprobs>>& logprobs) {
  if (!logprobs) return nullptr;
  Json entries = Json::array();
  for (const TokenLogprobs& entry : *logprobs) {
    Json top = Json::array();
    for (const auto& [token_id, logprob] : entry.top) top.push_back(Json::array({token_id, logprob}));
    entries.push_back({{"token_id", entry.token_id}, {"logprob", entry.logprob}, {"top", std::move(top)}});
  }
  return entries;
}

// What the JSON of a text's result and a rubric's share, after the text.
void append_end(Json& document, const TextResult& result) {
  document["finish_reason"] = finish_reason_name(result.finish_reason);
  document["usage"] = json_of(result.usage);
  document["timings_ms"] = json_of(result.timings_ms);
  document["seed"] = result.seed;
  document["logprobs"] = json_of(result.logprobs);
}

}  // namespace

TextResult text_result(const Sequence& sequence, Time tokenized) {
  Sequence::Outcome outcome = sequence.outcome();
  TextResult result;
  result.text = std::move(outcome.text);
  result.finish_reason = outcome.finish_reason == FinishReason::NONE ? FinishReason::CANCELLED : outcome.finish_reason;
  result.usage = {static_cast<int64_t>(sequence.prompt_ids().size()), outcome.cached_tokens,
                  static_cast<int64_t>(outcome.token_ids.size()), outcome.drafted_tokens, outcome.accepted_tokens};
  result.timings_ms = timings_of(outcome.times, tokenized);
  result.seed = sequence.seed();
  if (sequence.options().logprobs) result.logprobs = std::move(outcome.logprobs);
  result.token_ids = std::move(outcome.token_ids);
  return result;
}

std::string to_json(const TextResult& result, std::optional<int> indent) {
  Json document{{"schema_version", kSchemaVersion}, {"text", result.text}};
  append_end(document, result);
  document["unconstrained"] = false;  // of servers, which may drop the form that a text must have
  return json_text(document, indent);
}

std::string to_json(const RubricResult& result, std::optional<int> indent) {
  Json document{{"schema_version", kSchemaVersion}, {"request", result.request}, {"text", result.text.text}};
  document["rubric"] = json_of(result.rubric);
  append_end(document, result.text);
  document["grammar_overrules"] = nullptr;
  if (const auto& overrules = result.grammar_overrules) {
    document["grammar_overrules"] = {{"count", overrules->count}, {"probability", overrules->probability}};
  }
  Json model = Json::object();
  for (const auto& [name, value] : result.model) model[name] = value;
  document["model"] = std::move(model);
  return json_text(document, indent);
}

}  // namespace rubricrm
