// What a graph is told about the tokens of one run, besides keys and values: one class per way of appending to the
// cache. docs/BUNDLE.md names the inputs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/onnx_binding.h"
#include "runtime/session.h"

namespace rubricrm {

// Tokens of one slot in a run, after `length` positions that hold one already. Logits of the last `rows` are wanted.
struct Part {
  int64_t slot;
  const TokenIds* token_ids;
  int64_t length;
  int64_t rows;
};

// Makes and binds the inputs of runs on one memory.
class StepInputs {
 public:
  virtual ~StepInputs() = default;
  virtual void bind(OnnxBinding& binding, const std::vector<Part>& parts) = 0;
  // Binds everything again in the next run: after one that failed.
  virtual void forget() = 0;
};

// What is known of a way without its inputs.
struct KvUpdate {
  bool takes_any_mix;    // a run may have tokens of several slots
  bool has_batch;        // the graph's values have an axis of sequences, which is 1
  bool is_context_long;  // its buffers are as long as the context
  int64_t least_rows;    // fewest rows of logits that a run computes for a part
};

// Of `slots`, `shared` or `scatter`. Throws std::out_of_range for another word.
const KvUpdate& kv_update(const std::string& word);
std::unique_ptr<StepInputs> new_step_inputs(const std::string& word, int64_t capacity, int64_t max_rows);

}  // namespace rubricrm
