// The vocabulary of failures: the codes of rubricrm/errors.py. One message form: what failed, where, got, expected,
// what to do. Errors travel as exceptions inside the library, and end at its C API.
#pragma once

#include <stdexcept>
#include <string>

namespace rubricrm {

// X(name): in the order of RUBRICRM_* in rubricrm.h, from 1; a test compares names with errors.py.
#define RUBRICRM_ERROR_CODES(X)   \
  X(BUNDLE_NOT_FOUND)             \
  X(BUNDLE_INVALID)               \
  X(BUNDLE_VERSION_UNSUPPORTED)   \
  X(GRAPH_UNUSABLE)               \
  X(REQUEST_INVALID)              \
  X(PROMPT_TOO_LONG)              \
  X(OPTION_INVALID)               \
  X(OPTION_UNKNOWN)               \
  X(STREAM_BUSY)                  \
  X(ENGINE_BUSY)                  \
  X(RESULT_INVALID)               \
  X(RUBRIC_MALFORMED)             \
  X(ANSWERS_INVALID)              \
  X(RUNTIME_MISSING)              \
  X(RUNTIME_FAILED)               \
  X(OUTPUT_INVALID)               \
  X(MODEL_CLOSED)                 \
  X(OUTPUT_EXISTS)                \
  X(WRITE_FAILED)                 \
  X(GRAMMAR_UNUSABLE)             \
  X(DEPENDENCY_MISSING)

enum class Code {
  OK = 0,
#define RUBRICRM_CODE(name) name,
  RUBRICRM_ERROR_CODES(RUBRICRM_CODE)
#undef RUBRICRM_CODE
};

// The stable upper-case name of a code.
inline const char* code_name(Code code) {
  static const char* const names[] = {"OK",
#define RUBRICRM_CODE(name) #name,
                                      RUBRICRM_ERROR_CODES(RUBRICRM_CODE)
#undef RUBRICRM_CODE
  };
  return names[static_cast<int>(code)];
}

// what() is the message without the code.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

}  // namespace rubricrm
