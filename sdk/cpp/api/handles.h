// What stands behind the opaque handles of sections 6 to 8.
#pragma once

#include <memory>

#include "api/bundle_texts.h"
#include "rubricrm.h"

// Texts of a bundle. Readers share them, so that they outlive the handle.
struct rubricrm_prompt {
  std::shared_ptr<rubricrm::BundleTexts> texts;
  bool is_owned;  // whether rubricrm_prompt_free frees it; else it belongs to a model
};

namespace rubricrm {

// A grammar's handle is a pointer to the grammar itself.
inline const rubricrm_grammar* handle_of(const Grammar* grammar) {
  return reinterpret_cast<const rubricrm_grammar*>(grammar);
}
inline const Grammar* grammar_of(const rubricrm_grammar* handle) { return reinterpret_cast<const Grammar*>(handle); }

}  // namespace rubricrm
