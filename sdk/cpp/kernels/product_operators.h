// MatMulInt4, MatMulInt8, GatedMatMulInt4, GatedMatMulInt8, GatherInt4, GatherInt8 (docs/BUNDLE.md).
#pragma once

#include "operator.h"

namespace rubricrm {

// The operators; they live as long as the process.
std::vector<const OrtCustomOp*> product_operators();

}  // namespace rubricrm
