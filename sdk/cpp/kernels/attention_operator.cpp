#include "attention_operator.h"

#include "attention.h"
#include "dispatch.h"

namespace rubricrm {
namespace {

enum Input : size_t {
  kQkv,
  kCache,
  kSlots,
  kPositions,
  kCos,
  kSin,
  kBaseSlots,
  kBaseLengths,
  kQueryNorm,
  kKeyNorm,
  kKeyScale,
  kValueScale
};

int64_t element_bytes(CacheType type) {
  return type == CacheType::kFloat32 ? 4 : type == CacheType::kFloat16 ? 2 : 1;
}

CacheType cache_type(const Tensor& cache) {
  switch (cache.type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return CacheType::kFloat32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return CacheType::kFloat16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: return CacheType::kInt8;
    default: throw OperatorError("kv_cache has the element type " + std::to_string(cache.type) +
                                 ", expected float32, float16 or int8");
  }
}

class Attention : public Kernel {
 public:
  explicit Attention(const NodeInfo& info)
      : layer_(info.integer("layer")),
        num_heads_(info.integer("num_heads")),
        num_kv_heads_(info.integer("kv_num_heads")),
        epsilon_(info.number("epsilon")) {
    if (num_kv_heads_ < 1 || num_heads_ < 1 || num_heads_ > 1024 || num_heads_ % num_kv_heads_ != 0) {
      throw OperatorError("num_heads is " + std::to_string(num_heads_) + " and kv_num_heads " +
                          std::to_string(num_kv_heads_) + ", expected a multiple, up to 1024, and its divisor");
    }
  }

  void run(NodeRun& node) const override {
    const Tensor kv = node.input(kCache);
    const SlotCache cache = read_cache(kv);
    const int64_t head_dim = kv.shape[5];
    AttentionShape shape;
    shape.num_heads = static_cast<int>(num_heads_);
    shape.num_kv_heads = static_cast<int>(num_kv_heads_);
    shape.head_dim = static_cast<int>(head_dim);
    shape.type = cache_type(kv);
    shape.epsilon = epsilon_;
    const int64_t context = read_tables(node, shape);
    shape.query_norm = read_norm(node, kQueryNorm, head_dim);
    shape.key_norm = read_norm(node, kKeyNorm, head_dim);
    std::vector<float> key_scales;
    std::vector<float> value_scales;
    shape.key_scales = read_scales(node, kKeyScale, shape, key_scales);
    shape.value_scales = read_scales(node, kValueScale, shape, value_scales);

    const Tensor qkv = node.input(kQkv);
    const Tensor slots = node.input(kSlots);
    const Tensor positions = node.input(kPositions);
    const Tensor base_slots = node.input(kBaseSlots);
    const Tensor base_lengths = node.input(kBaseLengths);
    const int64_t count = slots.size();
    require_shape(qkv, {count, (num_heads_ + 2 * num_kv_heads_) * head_dim}, "qkv");
    require_shape(slots, {count}, "slots");
    require_shape(positions, {count}, "positions");
    require_shape(base_lengths, base_slots.shape, "base_lengths");
    const StepTokens tokens{count,
                            slots.as<int64_t>(),
                            positions.as<int64_t>(),
                            base_slots.size(),
                            base_slots.as<int64_t>(),
                            base_lengths.as<int64_t>()};
    const std::string problem = check_step(tokens, cache, context);
    if (!problem.empty()) throw OperatorError(problem);
    const Tensor out = node.output({count, num_heads_ * head_dim});
    attend_step(*dispatch().kernels, node, shape, cache, layer_, tokens, qkv.as<float>(), out.as<float>());
  }

 private:
  SlotCache read_cache(const Tensor& kv) const {
    if (kv.shape.size() != 6) {
      throw OperatorError("kv_cache has " + std::to_string(kv.shape.size()) +
                          " axes, expected [num_layers, 2, slots, kv_heads, capacity, head_dim]");
    }
    require_shape(kv, {kv.shape[0], 2, kv.shape[2], num_kv_heads_, kv.shape[4], kv.shape[5]}, "kv_cache");
    const int64_t head_dim = kv.shape[5];
    if (layer_ < 0 || layer_ >= kv.shape[0] || head_dim < 2 || head_dim > kMostHeadDim || head_dim % 2 != 0) {
      throw OperatorError("kv_cache has " + std::to_string(kv.shape[0]) + " layers and a head_dim of " +
                          std::to_string(head_dim) + ", expected more than " + std::to_string(layer_) +
                          " layers and an even head_dim from 2 to " + std::to_string(kMostHeadDim));
    }
    return {kv.as<char>(), kv.shape[0], kv.shape[2], num_kv_heads_, kv.shape[4],
            head_dim * element_bytes(cache_type(kv))};
  }

  // Returns how many positions the rotary tables hold.
  static int64_t read_tables(const NodeRun& node, AttentionShape& shape) {
    const Tensor cos = node.input(kCos);
    const Tensor sin = node.input(kSin);
    const int64_t context = cos.shape.empty() ? 0 : cos.shape[0];
    require_shape(cos, {context, shape.head_dim / 2}, "cos");
    require_shape(sin, {context, shape.head_dim / 2}, "sin");
    shape.cos = cos.as<float>();
    shape.sin = sin.as<float>();
    return context;
  }

  static const float* read_norm(const NodeRun& node, Input index, int64_t head_dim) {
    const Tensor norm = node.input(index);
    if (norm.is_present) require_shape(norm, {head_dim}, "a norm");
    return norm.as<float>();
  }

  // Returns the scales of an INT8 cache, one per head and channel; a single one is spread in `spread`.
  const float* read_scales(const NodeRun& node, Input index, const AttentionShape& shape,
                           std::vector<float>& spread) const {
    const Tensor scales = node.input(index);
    const int64_t count = num_kv_heads_ * shape.head_dim;
    if (shape.type != CacheType::kInt8) {
      if (scales.is_present) throw OperatorError("has scales of keys or values, which belong to an int8 cache");
      return nullptr;
    }
    if (!scales.is_present || (scales.size() != 1 && scales.size() != count)) {
      throw OperatorError("an int8 cache has " + std::to_string(scales.is_present ? scales.size() : 0) +
                          " scales, expected 1 or " + std::to_string(count));
    }
    if (scales.size() == count) return scales.as<float>();
    spread.assign(count, scales.as<float>()[0]);
    return spread.data();
  }

  int64_t layer_;
  int64_t num_heads_;
  int64_t num_kv_heads_;
  float epsilon_;
};

}  // namespace

const OrtCustomOp* attention_operator() {
  const InputKind floats{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT};
  const InputKind maybe_floats{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true};
  const InputKind integers{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64};
  const InputKind any{ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED};
  static const Operator attention(
      "Attention",
      {floats, any, integers, integers, floats, floats, integers, integers, maybe_floats, maybe_floats, maybe_floats,
       maybe_floats},
      [](const NodeInfo& info) -> Kernel* { return new Attention(info); });
  return &attention;
}

}  // namespace rubricrm
