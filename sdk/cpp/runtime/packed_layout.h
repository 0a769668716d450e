// A tensor in its other layout: the standard one that ONNX Runtime reads, or the packed one of this project's kernels.
// docs/BUNDLE.md, "Layouts", is the contract; the bytes are those that runtime/data_layout.py writes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/graph_tensors.h"

namespace rubricrm {

// The bytes of a tensor, made of those of `source`; none: the shapes do not fit.
using Convert = std::optional<std::string> (*)(const GraphTensor& source, std::string_view bytes,
                                               const GraphTensor& wanted);

// A way to make a tensor.
struct Conversion {
  std::string source;  // the name of the tensor that it is made of
  std::function<bool(const GraphTensor& source)> fits;
  Convert convert;
};

// The ways to make a tensor of another one, by its name, type and rank. What they throw: BUNDLE_INVALID: a scale is no
// number of float16, so that the two layouts would not be one model.
std::vector<Conversion> conversions_to(const GraphTensor& wanted);

}  // namespace rubricrm
