// A text as the C API gives it away: the public struct, and behind it its memory.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "rubricrm.h"

namespace rubricrm {

struct TextView : rubricrm_text {
  explicit TextView(std::string given) : rubricrm_text{}, text(std::move(given)) {
    data = text.c_str();
    size = text.size();
  }
  const std::string text;
};

// A text that rubricrm_text_free frees.
inline const rubricrm_text* new_text(std::string text) {
  return std::make_unique<TextView>(std::move(text)).release();
}

}  // namespace rubricrm
