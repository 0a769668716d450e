// Attention over slots: the numbers of its definition, the same bits in any company, and nothing written out of place.
#include <cmath>
#include <cstring>

#include "attention.h"
#include "dispatch.h"
#include "expect.h"
#include "half.h"
#include "test_pool.h"

namespace {

using namespace rubricrm;

// A layer of attention with its tables, weights and cache.
struct Layer {
  AttentionShape shape;
  SlotCache cache;
  std::vector<float> cos, sin, query_norm, key_norm, key_scales, value_scales;
  std::vector<char> memory;
  int64_t context;

  Layer(Numbers& numbers, int heads, int kv_heads, int head_dim, CacheType type, int64_t slots, int64_t capacity)
      : context(capacity) {
    shape.num_heads = heads;
    shape.num_kv_heads = kv_heads;
    shape.head_dim = head_dim;
    shape.type = type;
    shape.epsilon = 1e-6f;
    for (int64_t position = 0; position < context; ++position) {
      for (int i = 0; i < head_dim / 2; ++i) {
        const double angle = static_cast<double>(position) * std::pow(1e4, -2.0 * i / head_dim);
        cos.push_back(static_cast<float>(std::cos(angle)));
        sin.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    query_norm = numbers.floats(head_dim);
    key_norm = numbers.floats(head_dim);
    key_scales.assign(kv_heads * head_dim, 0.03f);
    value_scales.assign(kv_heads * head_dim, 0.02f);
    shape.cos = cos.data();
    shape.sin = sin.data();
    shape.query_norm = query_norm.data();
    shape.key_norm = key_norm.data();
    if (type == CacheType::kInt8) {
      shape.key_scales = key_scales.data();
      shape.value_scales = value_scales.data();
    }
    const int64_t bytes = type == CacheType::kFloat32 ? 4 : type == CacheType::kFloat16 ? 2 : 1;
    memory.assign(2 * 2 * slots * kv_heads * capacity * head_dim * bytes, 0);
    cache = {memory.data(), 2, slots, kv_heads, capacity, head_dim * bytes};
  }

  int64_t qkv_size() const { return (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim; }
  int64_t out_size() const { return shape.num_heads * shape.head_dim; }

  std::vector<float> step(const KernelTable& kernels, const std::vector<float>& qkv, const std::vector<int64_t>& slots,
                          const std::vector<int64_t>& positions, const std::vector<int64_t>& bases = {},
                          const std::vector<int64_t>& lengths = {}) {
    StepTokens tokens{static_cast<int64_t>(slots.size()), slots.data(), positions.data(),
                      static_cast<int64_t>(bases.size()), bases.data(), lengths.data()};
    const std::string problem = check_step(tokens, cache, context);
    EXPECT(problem.empty(), "%s", problem.c_str());
    std::vector<float> out(slots.size() * out_size());
    TestPool pool(2);
    attend_step(kernels, pool, shape, cache, 1, tokens, qkv.data(), out.data());
    return out;
  }
};

std::vector<int64_t> range(int64_t from, int64_t to) {
  std::vector<int64_t> result;
  for (int64_t i = from; i < to; ++i) result.push_back(i);
  return result;
}

std::vector<float> rows(const std::vector<float>& all, int64_t size, int64_t from, int64_t to) {
  return {all.begin() + from * size, all.begin() + to * size};
}

std::vector<float> joined(std::vector<float> a, const std::vector<float>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<double> prepared(const Layer& layer, const float* head, const std::vector<float>& norm, int64_t position) {
  const int dim = layer.shape.head_dim;
  double squares = 0;
  for (int i = 0; i < dim; ++i) squares += static_cast<double>(head[i]) * head[i];
  std::vector<double> x(dim);
  for (int i = 0; i < dim; ++i) x[i] = head[i] / std::sqrt(squares / dim + 1e-6) * norm[i];
  std::vector<double> result(dim);
  for (int i = 0; i < dim / 2; ++i) {
    const double c = layer.cos[position * dim / 2 + i];
    const double s = layer.sin[position * dim / 2 + i];
    result[i] = x[i] * c - x[i + dim / 2] * s;
    result[i + dim / 2] = x[i + dim / 2] * c + x[i] * s;
  }
  return result;
}

// The definition, in double precision, for one query of one sequence that begins at position 0.
std::vector<double> defined(const Layer& layer, const std::vector<float>& qkv, int64_t token, int head) {
  const AttentionShape& shape = layer.shape;
  const int dim = shape.head_dim;
  const int kv_head = head / shape.queries_per_head();
  const auto query = prepared(layer, &qkv[token * layer.qkv_size() + head * dim], layer.query_norm, token);
  std::vector<double> weights;
  double total = 0;
  for (int64_t position = 0; position <= token; ++position) {
    const float* key_head = &qkv[position * layer.qkv_size() + (shape.num_heads + kv_head) * dim];
    const auto key = prepared(layer, key_head, layer.key_norm, position);
    double score = 0;
    for (int i = 0; i < dim; ++i) score += query[i] * key[i];
    weights.push_back(std::exp(score / std::sqrt(dim)));
    total += weights.back();
  }
  std::vector<double> result(dim);
  for (int64_t position = 0; position <= token; ++position) {
    const float* value =
        &qkv[position * layer.qkv_size() + (shape.num_heads + shape.num_kv_heads + kv_head) * dim];
    for (int i = 0; i < dim; ++i) result[i] += weights[position] / total * value[i];
  }
  return result;
}

void test_definition() {
  Numbers numbers(1);
  Layer layer(numbers, 6, 2, 40, CacheType::kFloat32, 1, 80);
  const std::vector<float> qkv = numbers.floats(70 * layer.qkv_size());
  const auto out = layer.step(plain_kernels, qkv, std::vector<int64_t>(70, 0), range(0, 70));
  for (const int64_t token : {0, 1, 31, 63, 64, 69}) {
    for (int head = 0; head < 6; ++head) {
      const auto expected = defined(layer, qkv, token, head);
      for (int i = 0; i < 40; ++i) {
        const float got = out[token * layer.out_size() + head * 40 + i];
        EXPECT(std::fabs(got - expected[i]) < 1e-5, "token %d: %g, expected %g", static_cast<int>(token), got,
               expected[i]);
      }
    }
  }
}

// All sets, cache types and shapes: one step, or any chunks beside other sequences, or after a base.
void check_company(Numbers& numbers, int heads, int kv_heads, int dim, CacheType type) {
  constexpr int64_t kTokens = 150;
  Layer layer(numbers, heads, kv_heads, dim, type, 4, 200);
  const int64_t size = layer.qkv_size();
  const std::vector<float> qkv = numbers.floats(kTokens * size);
  const auto expected = layer.step(plain_kernels, qkv, std::vector<int64_t>(kTokens, 1), range(0, kTokens));
  const std::vector<char> after = layer.memory;
  for (const KernelTable* kernels : built_kernels()) {
    if (!kernels->is_supported()) continue;
    std::fill(layer.memory.begin(), layer.memory.end(), 0);
    const auto whole = layer.step(*kernels, qkv, std::vector<int64_t>(kTokens, 1), range(0, kTokens));
    EXPECT(same_bits(whole, expected), "%s: head_dim %d, cache %d", kernels->name, dim, static_cast<int>(type));
    EXPECT(layer.memory == after, "%s: head_dim %d, cache %d", kernels->name, dim, static_cast<int>(type));

    std::vector<float> parts;
    for (int64_t at = 0; at < kTokens;) {
      const int64_t end = std::min<int64_t>(kTokens, at + numbers.integer(1, 50));
      std::vector<int64_t> slots(end - at + 2, 2);
      slots.front() = 0;
      slots.back() = 3;
      std::vector<int64_t> positions = range(at - 1, end + 1);
      positions.front() = numbers.integer(0, 199);
      positions.back() = numbers.integer(0, 199);
      const auto mixed = joined(joined(numbers.floats(size), rows(qkv, size, at, end)), numbers.floats(size));
      const auto out = layer.step(*kernels, mixed, slots, positions);
      parts = joined(parts, rows(out, layer.out_size(), 1, end - at + 1));
      at = end;
    }
    EXPECT(same_bits(parts, expected), "%s in chunks: head_dim %d", kernels->name, dim);

    // Slots 0 and 3 go on from slot 1's first 100 positions.
    const auto rest = rows(qkv, size, 100, kTokens);
    std::vector<int64_t> slots(50, 0);
    slots.resize(100, 3);
    auto positions = range(100, kTokens);
    positions.insert(positions.end(), positions.begin(), positions.begin() + 50);
    const auto out = layer.step(*kernels, joined(rest, rest), slots, positions, {1, -1, -1, 1}, {100, 0, 0, 100});
    const auto last = rows(expected, layer.out_size(), 100, kTokens);
    EXPECT(same_bits(out, joined(last, last)), "%s after a base: head_dim %d", kernels->name, dim);
  }
}

void test_company() {
  Numbers numbers(2);
  for (const CacheType type : {CacheType::kFloat32, CacheType::kFloat16, CacheType::kInt8}) {
    // ThreadSanitizer sees what threads share at any size: at this one it takes as long as at all others.
#ifndef __SANITIZE_THREAD__
    check_company(numbers, 8, 2, 128, type);
#endif
    check_company(numbers, 9, 3, 64, type);
    check_company(numbers, 5, 1, 24, type);
    check_company(numbers, 2, 2, 8, type);
  }
}

// Only the places of the step's own tokens change, in the layer that runs.
void test_places() {
  Numbers numbers(3);
  Layer layer(numbers, 4, 2, 32, CacheType::kFloat32, 3, 50);
  const std::vector<char> before = layer.memory;
  const std::vector<float> qkv = numbers.floats(3 * layer.qkv_size());
  layer.step(plain_kernels, qkv, {2, 2, 0}, {7, 8, 49});
  std::vector<bool> may_change(before.size(), false);
  const std::vector<std::pair<int64_t, int64_t>> places = {{2, 7}, {2, 8}, {0, 49}};
  for (const auto& [slot, position] : places) {
    for (int head = 0; head < 2; ++head) {
      const TokenCache at = layer.cache.head(1, slot, head);
      for (const char* half : {at.keys, at.values}) {
        const int64_t start = half - layer.memory.data() + position * layer.cache.head_bytes;
        for (int64_t i = 0; i < layer.cache.head_bytes; ++i) may_change[start + i] = true;
      }
    }
  }
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT(may_change[i] || layer.memory[i] == before[i], "byte %zu was written", i);
  }
}

void test_refusals() {
  Numbers numbers(4);
  Layer layer(numbers, 4, 2, 32, CacheType::kFloat32, 2, 50);
  struct Case {
    std::vector<int64_t> slots, positions, bases, lengths;
    const char* message;
  };
  const std::vector<Case> cases = {
      {{2}, {0}, {}, {}, "the slot of token 0 is 2, expected 0 to 1"},
      {{-1}, {0}, {}, {}, "the slot of token 0 is -1"},
      {{0}, {50}, {}, {}, "the position of token 0 is 50, expected 0 to 49"},
      {{0}, {-1}, {}, {}, "the position of token 0 is -1"},
      {{0, 0}, {3, 5}, {}, {}, "the position of token 1 is 5, expected 4"},
      {{0, 0}, {3, 3}, {}, {}, "the position of token 1 is 3, expected 4"},
      {{0, 1, 0}, {3, 3, 4}, {}, {}, "the slot of token 2 is 0, expected another"},
      {{0}, {3}, {1}, {2}, "base_slots and base_lengths have 1 elements, expected 0 or 2"},
      {{0}, {3}, {2, -1}, {2, 0}, "the base of slot 0 is slot 2, expected -1 to 1"},
      {{0}, {3}, {1, -1}, {51, 0}, "the base of slot 0 has 51 positions, expected 0 to 50"},
      {{0}, {3}, {1, -1}, {4, 0}, "position of token 0 is 3, expected at least 4"},
      {{0, 1}, {9, 3}, {1, -1}, {4, 0}, "position of token 1 is 3, expected at least 4"},
  };
  for (const Case& one : cases) {
    const StepTokens tokens{static_cast<int64_t>(one.slots.size()), one.slots.data(), one.positions.data(),
                            static_cast<int64_t>(one.bases.size()), one.bases.data(), one.lengths.data()};
    const std::string problem = check_step(tokens, layer.cache, layer.context);
    EXPECT(problem.find(one.message) == 0, "'%s', expected '%s'", problem.c_str(), one.message);
  }
}

// A NaN in a query, a key or a value is seen in the output.
void test_wrong_inputs() {
  Numbers numbers(5);
  for (const KernelTable* kernels : built_kernels()) {
    if (!kernels->is_supported()) continue;
    for (const int place : {3, 4 * 32 + 3, 6 * 32 + 3}) {
      Layer layer(numbers, 4, 2, 32, CacheType::kFloat32, 1, 50);
      std::vector<float> qkv = numbers.floats(2 * layer.qkv_size());
      qkv[place] = NAN;
      const auto out = layer.step(*kernels, qkv, {0, 0}, {0, 1});
      EXPECT(std::isnan(out[3]), "%s: NaN at %d became %g", kernels->name, place, out[3]);
    }
  }
}

}  // namespace

int main() {
  test_definition();
  test_company();
  test_places();
  test_refusals();
  test_wrong_inputs();
  return failures == 0 ? 0 : 1;
}
