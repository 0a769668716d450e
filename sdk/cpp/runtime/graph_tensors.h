// The initializers of an ONNX graph: names, types, shapes, and where their bytes lie; as runtime/graph_tensors.py of
// the Python package reads them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/whole_file.h"

namespace rubricrm {

// ONNX's numbers of element types (TensorProto.DataType).
constexpr int64_t kFloat32Type = 1, kUint8Type = 2, kFloat16Type = 10;

struct GraphTensor {
  std::string name;
  int64_t element_type = 0;
  std::vector<int64_t> shape;
  std::string location;   // the name of its data file; empty: its bytes are inside the graph's own file
  int64_t offset = 0;     // where its bytes begin in the data file
  int64_t num_bytes = 0;  // how many there are, as type and shape say
};

// The initializers of a graph's file whose bytes lie in a data file, in their order. Throws BUNDLE_INVALID: it is no
// such file, or the length of a tensor is not that of its type and shape.
std::vector<GraphTensor> external_tensors(const fs::path& path);

}  // namespace rubricrm
