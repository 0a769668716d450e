// What stands behind the handles of sections 7 and 8.
#pragma once

#include <memory>

#include "api/handles.h"
#include "api/open_model.h"
#include "rubricrm.h"

struct rubricrm_model {
  std::shared_ptr<rubricrm::OpenModel> model;
  rubricrm_prompt prompt;
};

struct rubricrm_request {
  std::shared_ptr<rubricrm::OpenRequest> request;
};

namespace rubricrm {

// OPTION_INVALID: it is null. MODEL_CLOSED: in a fork.
std::shared_ptr<OpenModel> model_of(rubricrm_model* model);

// Checked. OPTION_INVALID, OPTION_UNKNOWN.
GenerationOptions generation_options(const rubricrm_generation_options* pointer);

}  // namespace rubricrm
