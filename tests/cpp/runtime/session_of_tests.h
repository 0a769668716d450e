// Sessions on the bundles of the tests.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "onnxruntime_for_tests.h"
#include "runtime/onnx_session.h"
#include "runtime/row_summary.h"

namespace rubricrm {

using Slots = std::vector<std::unique_ptr<Slot>>;

inline fs::path path_of(const std::string& bundle) { return fs::path(RUBRICRM_SOURCE) / bundle; }

inline SessionOptions options_of(const std::string& graph = "", int threads = 1) {
  SessionOptions options;
  options.threads = threads;
  options.onnxruntime = onnxruntime_for_tests();
  options.kernels = RUBRICRM_KERNELS_FILE;
  options.graph_file = graph;
  return options;
}

// Varied ids that the tiny bundles have.
inline TokenIds varied_ids(size_t count) {
  TokenIds ids(count);
  for (size_t n = 0; n < count; ++n) ids[n] = static_cast<int32_t>(5 + 7 * n % 250);
  return ids;
}

inline TokenIds part_of(const TokenIds& ids, size_t start, size_t end) {
  return TokenIds(ids.begin() + static_cast<long>(start), ids.begin() + static_cast<long>(end));
}

// A copy of logits, which another step would overwrite.
using Rows = std::vector<float>;

inline Rows rows_of(const Logits& logits) { return Rows(logits.data, logits.data + logits.rows * logits.vocab_size); }

inline Rows run(Session& session, Slot& slot, const TokenIds& ids, int rows = 1) {
  return rows_of(session.step({{&slot, ids, rows}})[0]);
}

// The same bits, also where they are those of different zeros.
inline bool are_same(const float* a, const float* b, size_t count) {
  return count == 0 || std::memcmp(a, b, count * sizeof(float)) == 0;
}
inline bool are_same(const Rows& a, const Rows& b) {
  return a.size() == b.size() && are_same(a.data(), b.data(), a.size());
}

}  // namespace rubricrm
