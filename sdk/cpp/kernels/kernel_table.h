// The kernels of one instruction set. All sets compute the same bits: the order of every sum is part of the contract.
#pragma once

#include <cstdint>

#include "packed_matrix.h"

namespace rubricrm {

constexpr int kMostHeadDim = 512;

enum class CacheType { kFloat32, kFloat16, kInt8 };

// What is the same for all tokens of an attention. Strides count elements of the cache.
struct AttentionShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  CacheType type = CacheType::kFloat32;
  float epsilon = 0;
  const float* cos = nullptr;       // [context][head_dim / 2]
  const float* sin = nullptr;
  const float* query_norm = nullptr;  // [head_dim]; null: heads are not normalized
  const float* key_norm = nullptr;
  const float* key_scales = nullptr;    // [num_kv_heads][head_dim], for an INT8 cache
  const float* value_scales = nullptr;

  RUBRICRM_INLINE int padded_head_dim() const { return (head_dim + kLanes - 1) / kLanes * kLanes; }
  RUBRICRM_INLINE int queries_per_head() const { return num_heads / num_kv_heads; }
};

// Keys or values of one head of one slot: [position][head_dim] of the cache's type.
struct TokenCache {
  char* keys = nullptr;
  char* values = nullptr;
};

// One token's attention over the positions [0, length), of which those below `base_length` lie in `base`.
struct TokenSpan {
  TokenCache own;
  TokenCache base;
  int64_t base_length = 0;
  int64_t length = 0;
};

struct KernelTable {
  const char* name;

  // Whether this processor has the instructions.
  bool (*is_supported)();

  // Most rows of `multiply`.
  int most_rows;

  // Rows at a time when there are many, whose weights then stay in the cache.
  int many_rows;

  // Rounds one row of floats [inputs] to 8 bits per block; `out` is the row's place. NaN and infinity make the scale NaN.
  void (*round_row)(const float* x, const PackedMatrix& matrix, const RoundedRows& out);

  // Multiplies `rows` rows of `x` by one tile: y [rows][64]. Where `is_stream` the weights come from memory.
  void (*multiply)(const PackedMatrix& matrix, int64_t tile, const RoundedRows& x, int rows, bool is_stream, float* y);

  // y = silu(gate) * up, in place of `up`.
  void (*gate)(const float* gate, float* up, int count);

  // Normalizes and rotates the heads of one token, and writes its keys and values into the cache.
  // qkv [heads + 2 * kv_heads][head_dim]; queries [heads][padded_head_dim], scaled, with zeros behind head_dim.
  // `own[h]` is the place of the token's own position in the cache of head h.
  void (*prepare_token)(const AttentionShape& shape, const float* qkv, int64_t position, const TokenCache* own,
                        float* queries);

  // Attends with the queries of one key head [queries_per_head][padded_head_dim], over chunks of positions that all
  // tokens go through together, so that those with the same memory read it once.
  // queries and out: one pointer per token, to the first query of the head. state: see attention_state_size.
  void (*attend)(const AttentionShape& shape, int kv_head, const TokenSpan* spans, const float* const* queries,
                 float* const* out, int64_t tokens, float* state);
};

// Floats of `state` for a number of tokens.
RUBRICRM_INLINE int64_t attention_state_size(const AttentionShape& shape, int64_t tokens) {
  return tokens * shape.queries_per_head() * (shape.padded_head_dim() + 2);
}

// Each is defined in its own file; x86 and ARM have theirs only. They are constants, since nothing of such a file may run,
// not even what makes a table, before `is_supported` said yes: the compiler may use the set's instructions anywhere in it.
extern const KernelTable plain_kernels;
extern const KernelTable avx2_kernels;
extern const KernelTable avx512vnni_kernels;
extern const KernelTable avx512amx_kernels;
extern const KernelTable neon_dotprod_kernels;
extern const KernelTable neon_i8mm_kernels;

}  // namespace rubricrm
