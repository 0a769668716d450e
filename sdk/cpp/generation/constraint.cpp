#include "generation/constraint.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

namespace rubricrm {
namespace {

// The stream of uniform numbers for choices after a refusal: that of the seed with these bits turned over.
constexpr uint64_t kSecondDraw = 0x5851F42D4C957F2D;

constexpr int64_t kBlock = 1024;
constexpr int64_t kLanes = 8;  // of independent sums, so that the compiler makes vectors of them
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// weights[n] = exp(logits[n] - most) to 5 digits, for `most` at least as large: a power of two and a series. Plain
// loops, so that the compiler makes vectors of them.
void exponentials(const float* logits, float most, int64_t count, float* weights) {
  int32_t bits[kBlock];
  float powers[kBlock];
  for (int64_t n = 0; n < count; ++n) {
    const float below = (logits[n] - most) * 1.44269504f;
    const float halvings = below < -126.0f ? -126.0f : below;
    const int32_t nearest = static_cast<int32_t>(halvings - 0.5f);
    const float rest = halvings - static_cast<float>(nearest);
    float series = 1.3333558e-3f * rest + 9.6181291e-3f;
    series = series * rest + 5.5504109e-2f;
    series = series * rest + 2.4022651e-1f;
    series = series * rest + 6.9314718e-1f;
    weights[n] = series * rest + 1.0f;
    bits[n] = (nearest + 127) << 23;
  }
  std::memcpy(powers, bits, sizeof(float) * static_cast<size_t>(count));
  for (int64_t n = 0; n < count; ++n) weights[n] *= powers[n];
}

float sum(const float* values, int64_t count) {
  float lanes[kLanes] = {};
  int64_t n = 0;
  for (; n + kLanes <= count; n += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values[n + lane];
  }
  for (; n < count; ++n) lanes[0] += values[n];
  return std::accumulate(lanes, lanes + kLanes, 0.0f);
}

// What a row of logits says about the tokens that a grammar allows.
struct Allowed {
  double refused;  // the probability of all others
  int32_t best;    // the first of the largest
};

Allowed look_at(const float* logits, float most, const std::vector<uint16_t>& token_class,
                const std::vector<uint8_t>& classes) {
  const int64_t count = static_cast<int64_t>(token_class.size());
  std::vector<float> limit_of_class(classes.size());
  for (size_t n = 0; n < classes.size(); ++n) limit_of_class[n] = classes[n] ? kInfinity : -kInfinity;
  double whole = 0.0, allowed = 0.0;
  float best = -kInfinity;
  int64_t best_block = 0;
  float limits[kBlock], weights[kBlock];
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t size = std::min(kBlock, count - start);
    for (int64_t n = 0; n < size; ++n) limits[n] = limit_of_class[token_class[start + n]];
    exponentials(logits + start, most, size, weights);
    whole += sum(weights, size);
    for (int64_t n = 0; n < size; ++n) weights[n] = limits[n] > 0.0f ? weights[n] : 0.0f;
    allowed += sum(weights, size);
    for (int64_t n = 0; n < size; ++n) limits[n] = std::min(limits[n], logits[start + n]);
    const float found = largest_value(limits, size);
    if (found > best) {
      best = found;
      best_block = start;
    }
  }
  int64_t at = best_block;
  while (at + 1 < count && (logits[at] != best || classes[token_class[at]] == 0)) ++at;
  return {1.0 - allowed / whole, static_cast<int32_t>(at)};
}

}  // namespace

int32_t Constraint::revise(int32_t token_id, const float* logits, const GenerationOptions& options, uint64_t seed,
                           uint64_t index, int64_t tokens_left, Sampler& sampler) {
  if (!grammar_.is_allowed(state_, token_id, tokens_left)) {
    token_id = overrule(logits, options, seed, index, tokens_left, sampler);
  }
  state_ = grammar_.next(state_, token_id);
  return token_id;
}

int32_t Constraint::overrule(const float* logits, const GenerationOptions& options, uint64_t seed, uint64_t index,
                             int64_t tokens_left, Sampler& sampler) {
  const float most = largest_value(logits, grammar_.num_tokens());
  const std::vector<uint8_t> classes = grammar_.allowed_classes(state_, tokens_left);
  const Allowed allowed = look_at(logits, most, grammar_.token_class(), classes);
  ++overrules_.count;
  overrules_.probability += allowed.refused;
  if (options.is_greedy()) return allowed.best;
  std::vector<int32_t> ids;
  grammar_.list_allowed(state_, tokens_left, ids);
  return sampler.choose_among(ids, logits, options, seed ^ kSecondDraw, index);
}

std::unique_ptr<Constraint> constrain(const Grammar* grammar, int64_t max_new_tokens) {
  if (grammar == nullptr || grammar->shortest(Grammar::kStart) > max_new_tokens) return nullptr;
  return std::make_unique<Constraint>(*grammar);
}

}  // namespace rubricrm
