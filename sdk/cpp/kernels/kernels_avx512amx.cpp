// AMX beside AVX-512 VNNI: where many rows meet a tile of weights, products are made 16 rows by 16 outputs by 64 inputs at a
// time. All else, and products of few rows, which wait for memory, are VNNI's.
#include <immintrin.h>

#include <cstring>

#include "kernel_table.h"
#include "prefetch.h"
#include "processor.h"

namespace rubricrm {
namespace {

constexpr int kManyRows = 64;
constexpr int kTileRows = 16;
constexpr int kAllVectors = kTile / kLanes;

// What LDTILECFG reads (Intel's manual, volume 1, chapter 18).
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

// Registers: sums of two groups of rows with two vectors of outputs, those rows, those weights. The compiler's
// instructions put their names into text, so that they must be macros.
#define SUM00 0
#define SUM01 1
#define SUM10 2
#define SUM11 3
#define ROWS0 4
#define ROWS1 5
#define WEIGHTS0 6
#define WEIGHTS1 7

void configure(int rows, int depth) {
  TileConfig config;
  for (int sum = SUM00; sum <= SUM11; ++sum) config.set(sum, rows, 4 * kLanes);
  config.set(ROWS0, rows, depth);
  config.set(ROWS1, rows, depth);
  config.set(WEIGHTS0, depth / 4, 4 * kLanes);
  config.set(WEIGHTS1, depth / 4, 4 * kLanes);
  // gcc 12 believes that the instruction reads 8 bytes, and may drop the stores to the others.
  asm volatile("" : : "m"(config));
  _tile_loadconfig(&config);
}

// Codes of a block in 4 bits as bytes: [vector][input / 4][16 outputs][4].
template <bool IsStream>
void unpack(const uint8_t* codes, int groups, const Prefetch& prefetch, uint8_t* out) {
  const __m512i mask = _mm512_set1_epi8(15);
  for (int v = 0; v < kAllVectors; ++v, out += 2 * groups * 4 * kLanes) {
    for (int group = 0; group < groups; ++group) {
      if (IsStream) prefetch.request(group, v);
      const __m512i both = _mm512_loadu_si512(codes + group * 4 * kTile + v * 4 * kLanes);
      _mm512_store_si512(out + 2 * group * 4 * kLanes, _mm512_and_si512(both, mask));
      _mm512_store_si512(out + (2 * group + 1) * 4 * kLanes, _mm512_and_si512(_mm512_srli_epi16(both, 4), mask));
    }
  }
}

// Weights of a block as tiles read them: `at(v, input)`, rows of 4 inputs, `stride` bytes apart.
struct BlockWeights {
  const uint8_t* codes;
  int64_t vector_bytes;
  int64_t stride;

  RUBRICRM_INLINE const uint8_t* at(int vector, int input) const {
    return codes + vector * vector_bytes + input / 4 * stride;
  }
};

// Adds a block's integer sums [rows][16] of one vector of outputs to the totals [rows][64].
RUBRICRM_INLINE void add_sums(const int32_t* sums, int rows, __m512i zeros, __m512 scale, const RoundedRows& x,
                              int64_t index, float* totals) {
  for (int row = 0; row < rows; ++row) {
    const int32_t sum = x.sums[row * x.blocks + index];
    const __m512i whole = _mm512_dpwssd_epi32(_mm512_load_si512(sums + row * kLanes), zeros,
                                              _mm512_set1_epi32(static_cast<uint16_t>(-sum)));
    const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[row * x.blocks + index]));
    float* total = totals + row * kTile;
    _mm512_store_ps(total, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), both, _mm512_load_ps(total)));
  }
}

// Rows in groups of `size`, at most 16. Where they do not come out even the last group begins early: its first rows are
// computed twice, with the same result.
struct RowGroups {
  int count;
  int size;
  int rows;

  explicit RowGroups(int all)
      : count((all + kTileRows - 1) / kTileRows), size((all + count - 1) / count), rows(all) {}
  RUBRICRM_INLINE int start(int group) const {
    const int even = group * size;
    return even + size <= rows ? even : rows - size;
  }
};

// One block: two groups of rows at a time meet two vectors of outputs at a time. totals [groups][size][64].
void multiply_block(const BlockWeights& weights, int block, int depth, const __m512i* zeros, const __m512* scales,
                    const RoundedRows& x, int64_t index, const RowGroups& groups, float* totals) {
  alignas(64) int32_t sums[4][kTileRows * kLanes];
  const int64_t stride = x.padded_inputs;
  for (int group = 0; group < groups.count; group += 2) {
    const bool is_pair = group + 1 < groups.count;
    const RoundedRows x0 = x.from(groups.start(group));
    const RoundedRows x1 = x.from(groups.start(is_pair ? group + 1 : group));
    float* totals0 = totals + group * groups.size * kTile;
    float* totals1 = totals0 + groups.size * kTile;
    for (int v = 0; v < kAllVectors; v += 2) {
      _tile_zero(SUM00);
      _tile_zero(SUM01);
      _tile_zero(SUM10);
      _tile_zero(SUM11);
      for (int input = 0; input < block; input += depth) {
        _tile_loadd(ROWS0, x0.codes + index * block + input, stride);
        _tile_loadd(WEIGHTS0, weights.at(v, input), weights.stride);
        _tile_loadd(WEIGHTS1, weights.at(v + 1, input), weights.stride);
        _tile_dpbsud(SUM00, ROWS0, WEIGHTS0);
        _tile_dpbsud(SUM01, ROWS0, WEIGHTS1);
        if (!is_pair) continue;
        _tile_loadd(ROWS1, x1.codes + index * block + input, stride);
        _tile_dpbsud(SUM10, ROWS1, WEIGHTS0);
        _tile_dpbsud(SUM11, ROWS1, WEIGHTS1);
      }
      _tile_stored(SUM00, sums[0], 4 * kLanes);
      _tile_stored(SUM01, sums[1], 4 * kLanes);
      add_sums(sums[0], groups.size, zeros[v], scales[v], x0, index, totals0 + kLanes * v);
      add_sums(sums[1], groups.size, zeros[v + 1], scales[v + 1], x0, index, totals0 + kLanes * (v + 1));
      if (!is_pair) continue;
      _tile_stored(SUM10, sums[2], 4 * kLanes);
      _tile_stored(SUM11, sums[3], 4 * kLanes);
      add_sums(sums[2], groups.size, zeros[v], scales[v], x1, index, totals1 + kLanes * v);
      add_sums(sums[3], groups.size, zeros[v + 1], scales[v + 1], x1, index, totals1 + kLanes * (v + 1));
    }
  }
}

// A tile of outputs with up to kManyRows rows, blocks in order.
template <bool IsStream>
void multiply_many(const PackedMatrix& matrix, int64_t tile, const RoundedRows& x, int rows, float* y) {
  alignas(64) float totals[(kManyRows + kTileRows) * kTile];
  alignas(64) uint8_t unpacked[kMostBlock * kTile];
  const RowGroups groups(rows);
  const int depth = matrix.block < 64 ? matrix.block : 64;
  configure(groups.size, depth);
  memset(totals, 0, groups.count * groups.size * kTile * sizeof(float));
  const uint8_t* codes = matrix.codes + tile * matrix.tile_bytes();
  const int64_t first_block = tile * matrix.blocks();
  for (int64_t index = 0; index < matrix.blocks(); ++index, codes += matrix.block_bytes()) {
    BlockWeights weights{codes, 4 * kLanes, 4 * kTile};
    if (matrix.bits == 4) {
      unpack<IsStream>(codes, matrix.groups(), Prefetch(matrix.codes, codes, 0), unpacked);
      weights = {unpacked, int64_t{matrix.block} * kLanes, 4 * kLanes};
    }
    __m512i zeros[kAllVectors];
    __m512 scales[kAllVectors];
    for (int v = 0; v < kAllVectors; ++v) {
      const int64_t place = (first_block + index) * kTile + kLanes * v;
      scales[v] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(matrix.scales + place)));
      zeros[v] = matrix.zero_points == nullptr
                     ? _mm512_set1_epi32(1 << (matrix.bits - 1))
                     : _mm512_cvtepu8_epi32(
                           _mm_loadu_si128(reinterpret_cast<const __m128i*>(matrix.zero_points + place)));
    }
    multiply_block(weights, matrix.block, depth, zeros, scales, x, index, groups, totals);
  }
  _tile_release();
  for (int group = 0; group < groups.count; ++group) {
    memcpy(y + groups.start(group) * kTile, totals + group * groups.size * kTile, groups.size * kTile * sizeof(float));
  }
}

void multiply(const PackedMatrix& matrix, int64_t tile, const RoundedRows& x, int rows, bool is_stream, float* y) {
  // Where both were measured with weights from memory: in blocks of 128, 8 rows take VNNI 0.94 of the time and 12 take it
  // longer; in blocks of 32, 12 take it as long.
  const int most_of_vnni = matrix.block < 64 ? 12 : 8;
  if (rows <= most_of_vnni) return avx512vnni_kernels.multiply(matrix, tile, x, rows, true, y);
  return is_stream ? multiply_many<true>(matrix, tile, x, rows, y) : multiply_many<false>(matrix, tile, x, rows, y);
}

void round_row(const float* x, const PackedMatrix& matrix, const RoundedRows& out) {
  avx512vnni_kernels.round_row(x, matrix, out);
}

void gate(const float* gate, float* up, int count) { avx512vnni_kernels.gate(gate, up, count); }

void prepare_token(const AttentionShape& shape, const float* qkv, int64_t position, const TokenCache* own,
                   float* queries) {
  avx512vnni_kernels.prepare_token(shape, qkv, position, own, queries);
}

void attend(const AttentionShape& shape, int kv_head, const TokenSpan* spans, const float* const* queries,
            float* const* out, int64_t tokens, float* state) {
  avx512vnni_kernels.attend(shape, kv_head, spans, queries, out, tokens, state);
}

}  // namespace

constexpr KernelTable avx512amx_kernels = {"avx512amx", has_amx, kManyRows,     kManyRows, round_row,
                                           multiply,    gate,    prepare_token, attend};

}  // namespace rubricrm
