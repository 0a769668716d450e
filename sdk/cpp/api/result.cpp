// Section 5 of rubricrm.h.
#include <utility>

#include "api/errors.h"
#include "api/result_view.h"

namespace rubricrm {
namespace {

RubricResult without_rubric(TextResult text, std::optional<Overrules> overrules) {
  RubricResult result;
  result.text = std::move(text);
  result.grammar_overrules = overrules;
  return result;
}

rubricrm_usage show_usage(const Usage& usage) {
  return {static_cast<uint64_t>(usage.prompt_tokens), static_cast<uint64_t>(usage.cached_prompt_tokens),
          static_cast<uint64_t>(usage.completion_tokens), static_cast<uint64_t>(usage.drafted_tokens),
          static_cast<uint64_t>(usage.accepted_tokens)};
}

}  // namespace

ResultView::ResultView(RubricResult result)
    : rubricrm_result{},
      result_(std::move(result)),
      shown_rubric_(std::make_unique<RubricView>(result_.rubric, false)) {
  show();
}

ResultView::ResultView(TextResult result, std::optional<Overrules> overrules)
    : rubricrm_result{}, result_(without_rubric(std::move(result), overrules)) {
  show();
}

void ResultView::show() {
  const TextResult& written = result_.text;
  request = view_of(result_.request);
  text = view_of(written.text);
  rubric = shown_rubric_.get();
  finish_reason = static_cast<rubricrm_finish_reason>(written.finish_reason);
  seed = written.seed;
  usage = show_usage(written.usage);
  const Timings& times = written.timings_ms;
  timings_ms = {times.tokenize, times.prefill, times.first_token.value_or(-1.0), times.decode, times.total};
  if (const std::optional<Overrules>& found = result_.grammar_overrules) {
    shown_overrules_ = {static_cast<uint64_t>(found->count), found->probability};
    overrules = &shown_overrules_;
  }
  token_ids = written.token_ids.data();
  num_token_ids = written.token_ids.size();
  if (written.logprobs) show_logprobs();
}

void ResultView::show_logprobs() {
  const std::vector<TokenLogprobs>& entries = *result_.text.logprobs;
  for (const TokenLogprobs& entry : entries) {
    shown_top_.emplace_back();
    for (const auto& [token_id, logprob] : entry.top) shown_top_.back().push_back({token_id, logprob});
  }
  shown_logprobs_.reserve(entries.size() + 1);  // so that it points somewhere even if there are none
  for (size_t i = 0; i < entries.size(); ++i) {
    const rubricrm_logprob chosen{entries[i].token_id, entries[i].logprob};
    shown_logprobs_.push_back({chosen, shown_top_[i].data(), shown_top_[i].size()});
  }
  logprobs = shown_logprobs_.data();
  num_logprobs = shown_logprobs_.size();
}

const char* ResultView::json() const {
  std::call_once(once_, [this] { json_ = shown_rubric_ ? to_json(result_) : to_json(result_.text); });
  return json_.c_str();
}

}  // namespace rubricrm

using namespace rubricrm;

extern "C" {

const char* rubricrm_finish_reason_name(int32_t reason) {
  const bool is_known = reason >= RUBRICRM_UNFINISHED && reason <= RUBRICRM_REPETITION;
  return is_known ? finish_reason_name(static_cast<FinishReason>(reason)) : "";
}

const char* rubricrm_result_json(const rubricrm_result* result) {
  if (result == nullptr) return nullptr;
  return guarded_or<const char*>(nullptr, [&] { return ResultView::of(result)->json(); });
}

void rubricrm_result_free(const rubricrm_result* result) { delete ResultView::of(result); }

}  // extern "C"
