#include "runtime/onnx_arena.h"

#include <unistd.h>

namespace rubricrm {
namespace {

constexpr int kInt64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, kFloat = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
// Memory for more rows of logits than these is given back after the run that needed it.
constexpr int64_t kKeptRows = 32;

KvShape shape_of(const GraphFacts& facts, const ModelFacts& model, int64_t count, int64_t num_positions) {
  const int64_t capacity =
      kv_update(facts.kv_update).is_context_long ? model.context_length : capacity_for(model, num_positions);
  return {model.num_layers, count, model.num_kv_heads, capacity, model.head_dim * kv_type(facts.kv_type).size};
}

}  // namespace

OnnxArena::OnnxArena(const OnnxGraph& graph, const GraphFacts& facts, const ModelFacts& model, int64_t count,
                     int64_t num_positions, int64_t max_rows)
    : update_(kv_update(facts.kv_update)),
      vocab_size_(model.vocab_size),
      memory_(shape_of(facts, model, count, num_positions)),
      base_slots_(static_cast<size_t>(count), -1),
      base_lengths_(static_cast<size_t>(count), 0),
      inputs_(new_step_inputs(facts.kv_update, memory_.shape().capacity, max_rows)),
      binding_(graph),
      process_(getpid()) {
  bind_memory(facts, kv_type(facts.kv_type));
}

OnnxArena::~OnnxArena() {
  if (binding_ && process_ != getpid()) binding_->leak();
}

void OnnxArena::bind_memory(const GraphFacts& facts, const KvType& type) {
  const KvShape& shape = memory_.shape();
  const int64_t head_dim = shape.row_bytes / type.size;
  if (facts.kv_update == "slots") {
    binding_->bind(Side::INPUT, "kv_cache", type.onnx_type, memory_.data(), shape.num_bytes(),
                   {shape.layers, 2, shape.slots, shape.heads, shape.capacity, head_dim});
    const int64_t bytes = shape.slots * static_cast<int64_t>(sizeof(int64_t));
    binding_->bind(Side::INPUT, "base_slots", kInt64, base_slots_.data(), bytes, {shape.slots});
    binding_->bind(Side::INPUT, "base_lengths", kInt64, base_lengths_.data(), bytes, {shape.slots});
    return;
  }
  const std::vector<int64_t> sizes{1, shape.heads, shape.capacity, head_dim};
  for (int64_t n = 0; n < 2 * shape.layers; ++n) {
    const std::string name = std::to_string(n / 2) + (n % 2 == 0 ? ".key" : ".value");
    const std::byte* const place = memory_.half(n / 2, n % 2, 0);
    binding_->bind(Side::INPUT, ("past_key_values." + name).c_str(), type.onnx_type, place, shape.half_bytes(), sizes);
    binding_->bind(Side::OUTPUT, ("present." + name).c_str(), type.onnx_type, place, shape.half_bytes(), sizes);
  }
}

void OnnxArena::set_base(int64_t slot, int64_t base, int64_t length) {
  base_slots_[static_cast<size_t>(slot)] = base;
  base_lengths_[static_cast<size_t>(slot)] = length;
}

void OnnxArena::bind_logits(int64_t rows) {
  if (rows == bound_rows_) return;
  if (rows > logit_capacity_ || (logit_capacity_ > kKeptRows && rows <= kKeptRows)) {
    logit_capacity_ = std::max<int64_t>(rows, 1);
    logits_.reset(new float[static_cast<size_t>(logit_capacity_ * vocab_size_)]);
  }
  const std::vector<int64_t> shape =
      update_.has_batch ? std::vector<int64_t>{1, rows, vocab_size_} : std::vector<int64_t>{rows, vocab_size_};
  binding_->bind(Side::OUTPUT, "logits", kFloat, logits_.get(),
                 rows * vocab_size_ * static_cast<int64_t>(sizeof(float)), shape);
  bound_rows_ = rows;
}

const float* OnnxArena::run(const OnnxGraph& graph, const std::vector<Part>& parts) {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.rows;
  try {
    inputs_->bind(*binding_, parts);
    bind_logits(rows);
    graph.run(binding_->get());
  } catch (...) {
    // What a failed run leaves bound is the runtime's business.
    inputs_->forget();
    bound_rows_ = -1;
    throw;
  }
  return logits_.get();
}

}  // namespace rubricrm
