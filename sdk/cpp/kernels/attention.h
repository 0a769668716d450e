// Attention of one layer for any mix of rows, over a cache of slots that is written in place.
#pragma once

#include <cstdint>
#include <string>

#include "kernel_table.h"
#include "thread_pool.h"

namespace rubricrm {

// The cache [layers][2][slots][kv_heads][capacity][head_dim]: keys, then values. It is the caller's memory.
struct SlotCache {
  char* data = nullptr;
  int64_t layers = 0;
  int64_t slots = 0;
  int64_t kv_heads = 0;
  int64_t capacity = 0;
  int64_t head_bytes = 0;  // of head_dim elements

  // Keys and values of one head of a slot.
  TokenCache head(int64_t layer, int64_t slot, int64_t head) const {
    const int64_t half = slots * kv_heads * capacity * head_bytes;
    char* keys = data + 2 * layer * half + (slot * kv_heads + head) * capacity * head_bytes;
    return {keys, keys + half};
  }
};

// Where the tokens of a step stand. The base of a slot holds its positions below the base's length; slot -1: none.
struct StepTokens {
  int64_t count = 0;
  const int64_t* slots = nullptr;      // [count]
  const int64_t* positions = nullptr;  // [count]
  int64_t num_bases = 0;               // 0: no slot has a base; else the number of slots
  const int64_t* base_slots = nullptr;
  const int64_t* base_lengths = nullptr;

  int64_t base_length(int64_t slot) const {
    return num_bases == 0 || base_slots[slot] < 0 ? 0 : base_lengths[slot];
  }
};

// Says what is wrong with a step's tokens, in one sentence; empty: nothing. `context` is the length of the rotary tables.
std::string check_step(const StepTokens& tokens, const SlotCache& cache, int64_t context);

// Writes the tokens' keys and values of a layer, then attends. The step was checked.
// qkv [count][(heads + 2 * kv_heads) * head_dim], out [count][heads * head_dim].
void attend_step(const KernelTable& kernels, ThreadPool& pool, const AttentionShape& shape, const SlotCache& cache,
                 int64_t layer, const StepTokens& tokens, const float* qkv, float* out);

}  // namespace rubricrm
