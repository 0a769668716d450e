#include "generation/sampling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

namespace rubricrm {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr int kHighest = 40;   // the highest weight is 2 to the power of it
constexpr int kStepBits = 12;  // 4096 steps of the difference of two logits, while a weight halves
constexpr int32_t kSteps = 1 << kStepBits;
constexpr float kLast = (kHighest + 1) * kSteps - 1;  // the first step at which no weight is left, and all after it
constexpr double kLn2 = 0.693147180559945309417;
constexpr int kUniformBits = 53;

// Weights of one halving: 2^40 * 2^(-steps / 4096), rounded down. Square roots and products are the same on every
// machine, a power may not be.
std::array<int64_t, kSteps> new_halving() {
  std::vector<double> powers{1.0};
  double factor = 0.5;
  while (powers.size() < kSteps) {
    factor = std::sqrt(factor);
    std::vector<double> finer;
    for (double power : powers) finer.insert(finer.end(), {power, power * factor});
    powers = finer;
  }
  std::array<int64_t, kSteps> weights;
  for (int n = 0; n < kSteps; ++n) weights[n] = static_cast<int64_t>(std::ldexp(powers[n], kHighest));
  return weights;
}

const std::array<int64_t, kSteps>& halving() {
  static const std::array<int64_t, kSteps> weights = new_halving();
  return weights;
}

// Bins in the order of weights: equal weights are in one bin, which holds those within 1.6 % of each other.
constexpr int kMantissaBits = 6;
constexpr int kBins = ((kHighest + 1) << kMantissaBits) + 1;

int bin_of(int64_t weight) {
  const double number = static_cast<double>(weight);
  uint64_t bits;
  std::memcpy(&bits, &number, sizeof(bits));
  // Without a branch: 0 has no bits at all.
  return std::max(0, static_cast<int>(bits >> (52 - kMantissaBits)) - (1023 << kMantissaBits) + 1);
}

constexpr int64_t kBlock = 1024;
constexpr int64_t kLanes = 16;  // compared side by side, so that the compiler makes vectors of them

}  // namespace

uint64_t uniform(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return (z ^ (z >> 31)) >> (64 - kUniformBits);
}

float largest_value(const float* logits, int64_t count) {
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int64_t n = 0;
  for (; n + kLanes <= count; n += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] = std::max(lanes[lane], logits[n + lane]);
  }
  float most = *std::max_element(lanes, lanes + kLanes);
  for (; n < count; ++n) most = std::max(most, logits[n]);
  return most;
}

int32_t largest(const float* logits, int64_t count) {
  float most = -std::numeric_limits<float>::infinity();
  int64_t block = 0;
  for (int64_t start = 0; start < count; start += kBlock) {
    const float found = largest_value(logits + start, std::min(kBlock, count - start));
    if (found > most) {
      most = found;
      block = start;
    }
  }
  return static_cast<int32_t>(std::find(logits + block, logits + count, most) - logits);
}

TokenLogprobs logprobs(const float* logits, int64_t vocab_size, int32_t token_id, int64_t num_top) {
  const double most = largest_value(logits, vocab_size);
  double whole = 0.0;
  for (int64_t n = 0; n < vocab_size; ++n) whole += std::exp(logits[n] - most);
  const double log_whole = std::log(whole);
  const auto score = [&](int32_t id) { return logits[id] - most - log_whole; };
  std::vector<int32_t> ids(vocab_size);
  std::iota(ids.begin(), ids.end(), 0);
  num_top = std::min(num_top, vocab_size);
  std::partial_sort(ids.begin(), ids.begin() + num_top, ids.end(),
                    [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  TokenLogprobs found{token_id, score(token_id), {}};
  for (int64_t n = 0; n < num_top; ++n) found.top.emplace_back(ids[n], score(ids[n]));
  return found;
}

int32_t Sampler::choose(const float* logits, int64_t count, const GenerationOptions& options, uint64_t seed,
                        uint64_t index) {
  if (options.is_greedy()) return largest(logits, count);
  const auto& [ids, weights] = this->weights(logits, count, options);
  const int64_t whole = std::accumulate(weights.begin(), weights.end(), int64_t{0});
  int64_t left = static_cast<int64_t>(Wide{uniform(seed, index)} * static_cast<uint64_t>(whole) >> kUniformBits);
  size_t at = 0;
  while (left >= weights[at]) left -= weights[at++];
  return ids[at];
}

int32_t Sampler::choose_among(const std::vector<int32_t>& ids, const float* logits, const GenerationOptions& options,
                              uint64_t seed, uint64_t index) {
  gathered_.clear();
  for (int32_t id : ids) gathered_.push_back(logits[id]);
  return ids[choose(gathered_.data(), static_cast<int64_t>(gathered_.size()), options, seed, index)];
}

const Weights& Sampler::weights(const float* logits, int64_t count, const GenerationOptions& options) {
  auto& [ids, weights] = kept_;
  ids.resize(count);
  std::iota(ids.begin(), ids.end(), 0);
  weights.resize(count);
  const std::array<int64_t, kSteps>& halving = rubricrm::halving();
  const float most = largest_value(logits, count);
  const float scale = static_cast<float>(kSteps / (options.temperature * kLn2));
  for (int64_t n = 0; n < count; ++n) {
    const float below = (most - logits[n]) * scale;
    const int32_t steps = static_cast<int32_t>(std::min(below, kLast) + 0.5f);
    weights[n] = halving[steps & (kSteps - 1)] >> (steps >> kStepBits);
  }
  if (options.top_k > 0 && options.top_k < count) keep(top_k_cut(options.top_k));
  if (options.top_p < 1.0) keep(top_p_cut(options.top_p));
  if (options.min_p > 0.0) keep_from(static_cast<int64_t>(std::ceil(std::ldexp(options.min_p, kHighest))));
  return kept_;
}

Sampler::Cut Sampler::top_k_cut(int64_t top_k) {
  return cut_where([top_k](int64_t count, int64_t) { return count >= top_k; });
}

Sampler::Cut Sampler::top_p_cut(double top_p) {
  const int64_t whole = std::accumulate(kept_.weights.begin(), kept_.weights.end(), int64_t{0});
  const auto part = static_cast<uint64_t>(std::ldexp(top_p, kUniformBits));
  const auto product = static_cast<int64_t>(Wide{static_cast<uint64_t>(whole)} * part >> kUniformBits);
  const int64_t enough = std::max<int64_t>(1, product);
  return cut_where([enough](int64_t, int64_t sum) { return sum >= enough; });
}

// Finds how few of the most probable tokens are enough: whole bins from the top, then single tokens of one bin, so that
// nothing but that is sorted. is_reached(count, sum) says whether so many, of so much weight, are.
template <class IsReached>
Sampler::Cut Sampler::cut_where(IsReached is_reached) {
  std::array<int64_t, kBins> counts{}, sums{};
  for (int64_t weight : kept_.weights) {
    const int bin = bin_of(weight);
    ++counts[bin];
    sums[bin] += weight;
  }
  int64_t count = 0, sum = 0;
  int bin = kBins - 1;
  for (; bin > 0 && !is_reached(count + counts[bin], sum + sums[bin]); --bin) {
    count += counts[bin];
    sum += sums[bin];
  }
  sorted_.clear();
  for (int64_t weight : kept_.weights) {
    if (bin_of(weight) == bin) sorted_.push_back(weight);
  }
  std::sort(sorted_.begin(), sorted_.end(), std::greater<int64_t>());
  for (int64_t weight : sorted_) {
    sum += weight;
    if (is_reached(++count, sum)) return {weight, count};
  }
  return {0, count};
}

void Sampler::keep(Cut cut) {
  auto& [ids, weights] = kept_;
  const auto is_above = [cut](int64_t weight) { return weight > cut.least; };
  int64_t left_of_least = cut.count - std::count_if(weights.begin(), weights.end(), is_above);
  size_t kept = 0;
  for (size_t n = 0; n < ids.size(); ++n) {
    if (!is_above(weights[n]) && (weights[n] != cut.least || left_of_least-- <= 0)) continue;
    ids[kept] = ids[n];
    weights[kept++] = weights[n];
  }
  ids.resize(kept);
  weights.resize(kept);
}

void Sampler::keep_from(int64_t least) {
  auto& [ids, weights] = kept_;
  size_t kept = 0;
  for (size_t n = 0; n < ids.size(); ++n) {
    if (weights[n] < least) continue;
    ids[kept] = ids[n];
    weights[kept++] = weights[n];
  }
  ids.resize(kept);
  weights.resize(kept);
}

}  // namespace rubricrm
