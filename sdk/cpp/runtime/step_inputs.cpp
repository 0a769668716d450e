#include "runtime/step_inputs.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace rubricrm {
namespace {

// Of this project's kernels: every token names its slot and position, so that any mix of slots is one run.
class SlotsInputs : public StepInputs {
 public:
  SlotsInputs(int64_t, int64_t max_rows)
      : token_ids_("input_ids", max_rows, false),
        slots_("slots", max_rows, false),
        positions_("positions", max_rows, false),
        logit_rows_("logit_rows", max_rows, false) {}

  void bind(OnnxBinding& binding, const std::vector<Part>& parts) override {
    int64_t end = 0, rows = 0;
    for (const Part& part : parts) {
      const int64_t start = end;
      end += static_cast<int64_t>(part.token_ids->size());
      std::copy(part.token_ids->begin(), part.token_ids->end(), token_ids_.values() + start);
      std::fill(slots_.values() + start, slots_.values() + end, part.slot);
      std::iota(positions_.values() + start, positions_.values() + end, part.length);
      std::iota(logit_rows_.values() + rows, logit_rows_.values() + rows + part.rows, end - part.rows);
      rows += part.rows;
    }
    token_ids_.bind(binding, end);
    slots_.bind(binding, end);
    positions_.bind(binding, end);
    logit_rows_.bind(binding, rows);
  }

  void forget() override {
    for (BoundIntegers* input : {&token_ids_, &slots_, &positions_, &logit_rows_}) input->forget();
  }

 private:
  BoundIntegers token_ids_, slots_, positions_, logit_rows_;
};

// Of GroupQueryAttention: the kernel appends where the mask ends.
class SharedInputs : public StepInputs {
 public:
  SharedInputs(int64_t capacity, int64_t max_rows)
      : token_ids_("input_ids", max_rows, true),
        mask_("attention_mask", capacity, true, 1),
        num_logits_("num_logits", 1, false) {}

  void bind(OnnxBinding& binding, const std::vector<Part>& parts) override {
    const Part& part = parts[0];
    std::copy(part.token_ids->begin(), part.token_ids->end(), token_ids_.values());
    *num_logits_.values() = part.rows;
    const auto count = static_cast<int64_t>(part.token_ids->size());
    token_ids_.bind(binding, count);
    mask_.bind(binding, part.length + count);
    num_logits_.bind(binding, 1);
  }

  void forget() override {
    for (BoundIntegers* input : {&token_ids_, &mask_, &num_logits_}) input->forget();
  }

 private:
  BoundIntegers token_ids_, mask_, num_logits_;
};

// Of TensorScatter: the graph is told where to write, and which rows of logits to compute.
class ScatterInputs : public StepInputs {
 public:
  ScatterInputs(int64_t, int64_t max_rows)
      : token_ids_("input_ids", max_rows, true),
        positions_("position_ids", max_rows, true),
        start_("write_indices", 1, false),
        logit_rows_("logit_rows", max_rows, false) {}

  void bind(OnnxBinding& binding, const std::vector<Part>& parts) override {
    const Part& part = parts[0];
    const auto count = static_cast<int64_t>(part.token_ids->size());
    std::copy(part.token_ids->begin(), part.token_ids->end(), token_ids_.values());
    std::iota(positions_.values(), positions_.values() + count, part.length);
    *start_.values() = part.length;
    std::iota(logit_rows_.values(), logit_rows_.values() + part.rows, count - part.rows);
    token_ids_.bind(binding, count);
    positions_.bind(binding, count);
    start_.bind(binding, 1);
    logit_rows_.bind(binding, part.rows);
  }

  void forget() override {
    for (BoundIntegers* input : {&token_ids_, &positions_, &start_, &logit_rows_}) input->forget();
  }

 private:
  BoundIntegers token_ids_, positions_, start_, logit_rows_;
};

template <class Inputs>
std::unique_ptr<StepInputs> make(int64_t capacity, int64_t max_rows) {
  return std::make_unique<Inputs>(capacity, max_rows);
}

struct Way {
  KvUpdate update;
  std::unique_ptr<StepInputs> (*make)(int64_t capacity, int64_t max_rows);
};

const std::map<std::string, Way>& ways() {
  static const std::map<std::string, Way> all{
      {"slots", {{true, false, false, 0}, make<SlotsInputs>}},
      {"shared", {{false, true, false, 1}, make<SharedInputs>}},
      {"scatter", {{false, true, true, 1}, make<ScatterInputs>}},
  };
  return all;
}

}  // namespace

const KvUpdate& kv_update(const std::string& word) { return ways().at(word).update; }

std::unique_ptr<StepInputs> new_step_inputs(const std::string& word, int64_t capacity, int64_t max_rows) {
  return ways().at(word).make(capacity, max_rows);
}

}  // namespace rubricrm
