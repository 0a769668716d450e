// Why a generation ends. After all but STOP, the text is cut.
#pragma once

namespace rubricrm {

// In the order of rubricrm_finish_reason.
enum class FinishReason { NONE, STOP, LENGTH, CANCELLED, TIMEOUT, REPETITION };

// The word in results: "stop", "length", "cancelled", "timeout", "repetition"; "" for NONE.
inline const char* finish_reason_name(FinishReason reason) {
  static const char* const names[] = {"", "stop", "length", "cancelled", "timeout", "repetition"};
  return names[static_cast<int>(reason)];
}

}  // namespace rubricrm
