// Slots whose memory is bound to a graph together, and what else a run on them needs.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "runtime/kv_memory.h"
#include "runtime/kv_type.h"
#include "runtime/step_inputs.h"

namespace rubricrm {

// Several slots are only where one run takes any mix of them. Where past and present are the same memory they are bound
// once: no token copies them.
class OnnxArena {
 public:
  // Throws RuntimeRefusal, FileError.
  OnnxArena(const OnnxGraph& graph, const GraphFacts& facts, const ModelFacts& model, int64_t count,
            int64_t num_positions, int64_t max_rows);
  ~OnnxArena();

  int64_t capacity() const { return memory_.shape().capacity; }
  const KvMemory& memory() const { return memory_; }
  // Begins what a slot reads of another one's positions: those below a length. 0: none.
  void set_base(int64_t slot, int64_t base, int64_t length);
  int64_t base_length(int64_t slot) const { return base_lengths_[static_cast<size_t>(slot)]; }
  void shorten_base(int64_t slot, int64_t length) { base_lengths_[static_cast<size_t>(slot)] = length; }

  // Runs parts of different slots; returns all rows of logits, that lie here until the next run. Throws RuntimeRefusal.
  const float* run(const OnnxGraph& graph, const std::vector<Part>& parts);
  // Lets go of the graph, which may then be freed.
  void unbind() { binding_.reset(); }

 private:
  void bind_memory(const GraphFacts& facts, const KvType& type);
  void bind_logits(int64_t rows);

  KvUpdate update_;
  int64_t vocab_size_;
  KvMemory memory_;
  std::vector<int64_t> base_slots_, base_lengths_;
  std::unique_ptr<StepInputs> inputs_;
  std::unique_ptr<float[]> logits_;
  int64_t logit_capacity_ = 0, bound_rows_ = -1;
  std::optional<OnnxBinding> binding_;
  int process_;
};

}  // namespace rubricrm
