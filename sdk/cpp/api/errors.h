// The boundary: what is thrown inside becomes a code and a message, and arguments are checked before they are used.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "error.h"
#include "rubricrm.h"

namespace rubricrm {

// Writes a code and a message; `error` may be null. Returns the code.
rubricrm_code report(rubricrm_error* error, Code code, std::string_view message);

// Reports what is being handled: only inside a catch clause.
rubricrm_code report_current(rubricrm_error* error);

// Calls what does the work of one function of the C API.
template <typename Call>
rubricrm_code guarded(rubricrm_error* error, Call call) {
  try {
    call();
    return report(error, Code::OK, {});
  } catch (...) {
    return report_current(error);
  }
}

// As guarded, for functions that return something and cannot say what failed.
template <typename Value, typename Call>
Value guarded_or(Value otherwise, Call call) {
  try {
    return call();
  } catch (...) {
    return otherwise;
  }
}

// OPTION_INVALID: it is null.
template <typename T>
T& required(T* pointer, const char* name) {
  if (pointer == nullptr) {
    throw Error(Code::OPTION_INVALID, std::string(name) + " is NULL. Pass a pointer to one.");
  }
  return *pointer;
}

// An output argument: null before anything can fail. OPTION_INVALID: the argument itself is null.
template <typename T>
T*& output(T** pointer, const char* name) {
  T*& place = required(pointer, name);
  place = nullptr;
  return place;
}

// A text as (pointer, size). REQUEST_INVALID: it is null.
std::string_view text_of(const char* data, size_t size, const char* name);

// A text that ends with NUL and is UTF-8; `otherwise` in the place of null. OPTION_INVALID.
std::string option_text(const char* data, const char* name, const char* otherwise = "");

// Texts of an option. OPTION_INVALID: one is null or no UTF-8.
std::vector<std::string> option_texts(const char* const* data, size_t count, const char* name);

// OPTION_INVALID: it is none of the three values.
bool is_on(rubricrm_switch value, const char* name, bool otherwise);

// OPTION_UNKNOWN: a field that a later version may give a meaning is not 0.
void check_reserved(int32_t reserved, const char* name);

// Checks the size of a struct of options, and copies what is known of it into `known_size` zeros. See "Options" in
// rubricrm.h.
void read_struct(const void* given, void* known, size_t known_size, const char* name);

// A copy of a struct of options; all zero for null.
template <typename Options>
Options read_options(const Options* given, const char* name) {
  Options options{};
  if (given != nullptr) read_struct(given, &options, sizeof options, name);
  if (given == nullptr) options.struct_size = sizeof options;
  return options;
}

// A text that the library gives; `text` must outlive it.
inline rubricrm_text view_of(const std::string& text) { return {text.c_str(), text.size()}; }

}  // namespace rubricrm
