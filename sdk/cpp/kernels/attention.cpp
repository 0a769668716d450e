#include "attention.h"

#include <algorithm>
#include <vector>

#include "scratch.h"

namespace rubricrm {
namespace {

// Tokens that one task takes through the cache together: what they read of it stays in the first-level cache.
constexpr int64_t kTokensOfTask = 32;
// So few tokens are prepared faster by one thread than threads meet.
constexpr int64_t kFewTokens = 2;

std::string found(const std::string& what, int64_t token, int64_t got, const std::string& expected) {
  return what + " of token " + std::to_string(token) + " is " + std::to_string(got) + ", expected " + expected;
}

std::string check_bases(const StepTokens& tokens, const SlotCache& cache) {
  if (tokens.num_bases != 0 && tokens.num_bases != cache.slots) {
    return "base_slots and base_lengths have " + std::to_string(tokens.num_bases) + " elements, expected 0 or " +
           std::to_string(cache.slots) + ", one per slot";
  }
  for (int64_t slot = 0; slot < tokens.num_bases; ++slot) {
    const int64_t base = tokens.base_slots[slot];
    if (base < -1 || base >= cache.slots) {
      return "the base of slot " + std::to_string(slot) + " is slot " + std::to_string(base) + ", expected -1 to " +
             std::to_string(cache.slots - 1);
    }
    if (base >= 0 && (tokens.base_lengths[slot] < 0 || tokens.base_lengths[slot] > cache.capacity)) {
      return "the base of slot " + std::to_string(slot) + " has " + std::to_string(tokens.base_lengths[slot]) +
             " positions, expected 0 to " + std::to_string(cache.capacity);
    }
  }
  return "";
}

// A position that is written in this step must not be another slot's base at the same time.
std::string check_written_bases(const StepTokens& tokens) {
  if (tokens.num_bases == 0) return "";
  std::vector<int64_t> base_of(tokens.num_bases, 0);  // how many positions of a slot others read
  for (int64_t token = 0; token < tokens.count; ++token) {
    const int64_t slot = tokens.slots[token];
    const int64_t length = tokens.base_length(slot);
    if (length > 0) base_of[tokens.base_slots[slot]] = std::max(base_of[tokens.base_slots[slot]], length);
  }
  for (int64_t token = 0; token < tokens.count; ++token) {
    const int64_t slot = tokens.slots[token];
    const int64_t first = std::max(tokens.base_length(slot), base_of[slot]);
    if (tokens.positions[token] < first) {
      return found("position", token, tokens.positions[token],
                   "at least " + std::to_string(first) + ": slot " + std::to_string(slot) +
                       " has or is a base of that many positions");
    }
  }
  return "";
}

}  // namespace

std::string check_step(const StepTokens& tokens, const SlotCache& cache, int64_t context) {
  std::string problem = check_bases(tokens, cache);
  if (!problem.empty()) return problem;
  const int64_t capacity = std::min(cache.capacity, context);
  std::vector<bool> is_done(cache.slots, false);
  for (int64_t token = 0; token < tokens.count; ++token) {
    const int64_t slot = tokens.slots[token];
    const int64_t position = tokens.positions[token];
    if (slot < 0 || slot >= cache.slots) {
      return found("the slot", token, slot, "0 to " + std::to_string(cache.slots - 1));
    }
    if (position < 0 || position >= capacity) {
      return found("the position", token, position, "0 to " + std::to_string(capacity - 1));
    }
    if (token > 0 && tokens.slots[token - 1] == slot) {
      if (position != tokens.positions[token - 1] + 1) {
        return found("the position", token, position,
                     std::to_string(tokens.positions[token - 1] + 1) + ": a slot's tokens ascend by one");
      }
    } else if (is_done[slot]) {
      return found("the slot", token, slot, "another: a slot's tokens stand together");
    }
    is_done[slot] = true;
  }
  return check_written_bases(tokens);
}

void attend_step(const KernelTable& kernels, ThreadPool& pool, const AttentionShape& shape, const SlotCache& cache,
                 int64_t layer, const StepTokens& tokens, const float* qkv, float* out) {
  if (tokens.count == 0) return;
  thread_local Scratch query_memory;
  const int64_t query_size = static_cast<int64_t>(shape.num_heads) * shape.padded_head_dim();
  float* queries = query_memory.get<float>(tokens.count * query_size);
  const int64_t qkv_size = static_cast<int64_t>(shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim;
  thread_local Scratch place_memory;
  TokenCache* places = place_memory.get<TokenCache>(tokens.count * shape.num_kv_heads);
  const auto prepare = [&](size_t token) {
    TokenCache* own = places + token * shape.num_kv_heads;
    const int64_t position = tokens.positions[token];
    for (int head = 0; head < shape.num_kv_heads; ++head) {
      own[head] = cache.head(layer, tokens.slots[token], head);
      own[head].keys += position * cache.head_bytes;
      own[head].values += position * cache.head_bytes;
    }
    kernels.prepare_token(shape, qkv + token * qkv_size, position, own, queries + token * query_size);
  };
  if (tokens.count <= kFewTokens) {
    for (int64_t token = 0; token < tokens.count; ++token) prepare(token);
  } else {
    pool.each(tokens.count, prepare);
  }

  thread_local Scratch state_memory;
  float* states = state_memory.get<float>(attention_state_size(shape, tokens.count) * shape.num_kv_heads);
  const int64_t parts = (tokens.count + kTokensOfTask - 1) / kTokensOfTask;
  pool.each(parts * shape.num_kv_heads, [&](size_t task) {
    const int kv_head = static_cast<int>(task % shape.num_kv_heads);
    const int64_t part = static_cast<int64_t>(task) / shape.num_kv_heads;
    const int64_t first = tokens.count * part / parts;
    const int64_t count = tokens.count * (part + 1) / parts - first;
    TokenSpan spans[kTokensOfTask];
    const float* token_queries[kTokensOfTask];
    float* token_out[kTokensOfTask];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t token = first + i;
      const int64_t slot = tokens.slots[token];
      const int64_t head = static_cast<int64_t>(kv_head) * shape.queries_per_head();
      spans[i].own = cache.head(layer, slot, kv_head);
      spans[i].length = tokens.positions[token] + 1;
      spans[i].base_length = tokens.base_length(slot);
      if (spans[i].base_length > 0) spans[i].base = cache.head(layer, tokens.base_slots[slot], kv_head);
      token_queries[i] = queries + token * query_size + head * shape.padded_head_dim();
      token_out[i] = out + (token * shape.num_heads + head) * shape.head_dim;
    }
    float* state = states + attention_state_size(shape, tokens.count) * kv_head + attention_state_size(shape, first);
    kernels.attend(shape, kv_head, spans, token_queries, token_out, count, state);
  });
}

}  // namespace rubricrm
