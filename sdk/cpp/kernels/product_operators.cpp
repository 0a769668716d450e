#include "product_operators.h"

#include "dispatch.h"
#include "product.h"

namespace rubricrm {
namespace {

// Shape and form of a packed matrix, from a node's attributes.
struct MatrixForm {
  int64_t outputs;
  int64_t inputs;
  int bits;
  int block;

  MatrixForm(const NodeInfo& info, int matrix_bits)
      : outputs(info.integer("N")),
        inputs(info.integer("K")),
        bits(matrix_bits),
        block(static_cast<int>(info.integer("block_size"))) {
    constexpr int64_t kMost = int64_t{1} << 31;
    if (outputs < 1 || outputs > kMost || inputs < 1 || inputs > kMost) {
      throw OperatorError("N is " + std::to_string(outputs) + " and K is " + std::to_string(inputs) +
                          ", expected positive numbers up to 2^31");
    }
    if (block != 32 && block != 64 && block != 128) {
      throw OperatorError("block_size is " + std::to_string(block) + ", expected 32, 64 or 128");
    }
  }

  // Checks the tensors against the form, so that no kernel reads behind them, and returns a view.
  PackedMatrix view(const Tensor& codes, const Tensor& scales, const Tensor& zero_points) const {
    PackedMatrix matrix;
    matrix.outputs = outputs;
    matrix.inputs = inputs;
    matrix.bits = bits;
    matrix.block = block;
    require_shape(codes, {matrix.tiles(), matrix.blocks() * matrix.groups(), kTile, 4}, "the packed matrix");
    require_shape(scales, {matrix.tiles(), matrix.blocks(), kTile}, "the scales");
    if (zero_points.is_present) {
      require_shape(zero_points, {matrix.tiles(), matrix.blocks(), kTile}, "the zero points");
    }
    matrix.codes = codes.as<uint8_t>();
    matrix.scales = scales.as<uint16_t>();
    matrix.zero_points = zero_points.as<uint8_t>();
    return matrix;
  }

  // Checks, when a kernel is made, the tensors that are constant: a wrong file is refused before the first run.
  void check_constants(const NodeInfo& info, size_t codes, size_t scales) const {
    const Tensor constant_codes = info.constant(codes);
    const Tensor constant_scales = info.constant(scales);
    if (constant_codes.is_present && constant_scales.is_present) view(constant_codes, constant_scales, {});
  }
};

// x [..., inputs] as rows; returns their number.
int64_t count_rows(const Tensor& x, int64_t inputs) {
  if (x.shape.empty() || x.shape.back() != inputs) {
    throw OperatorError("the inputs have " + (x.shape.empty() ? "no axis" : std::to_string(x.shape.back()) + " columns") +
                        ", expected K = " + std::to_string(inputs));
  }
  return x.size() / inputs;
}

std::vector<int64_t> with_last(std::vector<int64_t> shape, int64_t last) {
  shape.back() = last;
  return shape;
}

int read_terms(const NodeInfo& info) {
  const int64_t is_exact = info.integer("exact_inputs");
  if (is_exact != 0 && is_exact != 1) {
    throw OperatorError("exact_inputs is " + std::to_string(is_exact) + ", expected 0 or 1");
  }
  return is_exact == 1 ? kExactTerms : 1;
}

template <int Bits>
class MatMul : public Kernel {
 public:
  explicit MatMul(const NodeInfo& info) : form_(info, Bits), terms_(read_terms(info)) {
    form_.check_constants(info, 1, 2);
  }

  void run(NodeRun& node) const override {
    if (node.input(4).is_present) throw OperatorError("has a codebook, which this version does not know");
    const Tensor x = node.input(0);
    const int64_t rows = count_rows(x, form_.inputs);
    const PackedMatrix matrix = form_.view(node.input(1), node.input(2), node.input(3));
    const Tensor y = node.output(with_last(x.shape, form_.outputs));
    multiply(*dispatch().kernels, node, matrix, x.as<float>(), rows, terms_, y.as<float>());
  }

 private:
  MatrixForm form_;
  int terms_;
};

template <int Bits>
class GatedMatMul : public Kernel {
 public:
  explicit GatedMatMul(const NodeInfo& info) : form_(info, Bits), terms_(read_terms(info)) {
    form_.check_constants(info, 1, 2);
    form_.check_constants(info, 3, 4);
  }

  void run(NodeRun& node) const override {
    const Tensor x = node.input(0);
    const int64_t rows = count_rows(x, form_.inputs);
    const PackedMatrix gate = form_.view(node.input(1), node.input(2), node.input(5));
    const PackedMatrix up = form_.view(node.input(3), node.input(4), node.input(6));
    const Tensor y = node.output(with_last(x.shape, form_.outputs));
    multiply_gated(*dispatch().kernels, node, gate, up, x.as<float>(), rows, terms_, y.as<float>());
  }

 private:
  MatrixForm form_;
  int terms_;
};

template <int Bits>
class Gather : public Kernel {
 public:
  explicit Gather(const NodeInfo& info) : form_(info, Bits) {
    form_.check_constants(info, 1, 2);
  }

  void run(NodeRun& node) const override {
    const Tensor ids = node.input(0);
    const PackedMatrix matrix = form_.view(node.input(1), node.input(2), node.input(3));
    const int64_t count = ids.size();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = ids.as<int64_t>()[i];
      if (id < 0 || id >= form_.outputs) {
        throw OperatorError("id " + std::to_string(id) + " at place " + std::to_string(i) + ", expected 0 to " +
                            std::to_string(form_.outputs - 1));
      }
    }
    std::vector<int64_t> shape = ids.shape;
    shape.push_back(form_.inputs);
    const Tensor y = node.output(shape);
    gather(matrix, ids.as<int64_t>(), count, y.as<float>());
  }

 private:
  MatrixForm form_;
};

template <class Made>
Kernel* make(const NodeInfo& info) {
  return new Made(info);
}

}  // namespace

std::vector<const OrtCustomOp*> product_operators() {
  const InputKind x{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT};
  const InputKind ids{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64};
  const InputKind codes{ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8};
  const InputKind scales{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16};
  const InputKind zero_points{ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, true};
  const InputKind codebook{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, true};
  const std::vector<InputKind> product{x, codes, scales, zero_points, codebook};
  const std::vector<InputKind> gated{x, codes, scales, codes, scales, zero_points, zero_points};
  const std::vector<InputKind> rows{ids, codes, scales, zero_points};
  static const Operator operators[] = {
      {"MatMulInt4", product, make<MatMul<4>>},        {"MatMulInt8", product, make<MatMul<8>>},
      {"GatedMatMulInt4", gated, make<GatedMatMul<4>>}, {"GatedMatMulInt8", gated, make<GatedMatMul<8>>},
      {"GatherInt4", rows, make<Gather<4>>},           {"GatherInt8", rows, make<Gather<8>>},
  };
  std::vector<const OrtCustomOp*> result;
  for (const Operator& one : operators) result.push_back(&one);
  return result;
}

}  // namespace rubricrm
