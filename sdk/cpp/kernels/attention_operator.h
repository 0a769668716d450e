// The operator Attention (docs/BUNDLE.md).
#pragma once

#include "operator.h"

namespace rubricrm {

// The operator; it lives as long as the process.
const OrtCustomOp* attention_operator();

}  // namespace rubricrm
