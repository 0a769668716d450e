#include "api/errors.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "text/utf8.h"

namespace rubricrm {
namespace {

// How many bytes of a message fit, whole characters only.
size_t fitting(std::string_view message) {
  size_t size = std::min<size_t>(message.size(), RUBRICRM_MESSAGE_SIZE - 1);
  if (size == message.size()) return size;
  while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xC0) == 0x80) --size;
  return size;
}

bool is_zero(const char* bytes, size_t size) {
  return std::all_of(bytes, bytes + size, [](char byte) { return byte == 0; });
}

}  // namespace

rubricrm_code report(rubricrm_error* error, Code code, std::string_view message) {
  const auto number = static_cast<rubricrm_code>(code);
  if (error == nullptr) return number;
  error->code = number;
  const size_t size = fitting(message);
  std::copy_n(message.begin(), size, error->message);
  error->message[size] = '\0';
  return number;
}

rubricrm_code report_current(rubricrm_error* error) {
  try {
    throw;
  } catch (const Error& thrown) {
    return report(error, thrown.code(), thrown.what());
  } catch (const std::bad_alloc&) {
    return report(error, Code::RUNTIME_FAILED, "memory ran out. Ask for less at once, or run where there is more.");
  } catch (const std::exception& thrown) {
    // No std::string: its memory could run out here, outside of any try. Some bytes more than fit, so that report()
    // sees where to cut.
    char message[RUBRICRM_MESSAGE_SIZE + 4];
    std::snprintf(message, sizeof message, "rubricrm failed (%s). It is its fault: please report it.", thrown.what());
    return report(error, Code::RUNTIME_FAILED, message);
  } catch (...) {
    return report(error, Code::RUNTIME_FAILED, "rubricrm failed. It is its fault: please report it.");
  }
}

std::string_view text_of(const char* data, size_t size, const char* name) {
  if (data == nullptr) throw Error(Code::REQUEST_INVALID, std::string(name) + ": got NULL, expected a string.");
  return {data, size == RUBRICRM_NUL_TERMINATED ? std::strlen(data) : size};
}

std::string option_text(const char* data, const char* name, const char* otherwise) {
  if (data == nullptr) return otherwise;
  const std::string text(data);
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string::npos) {
    throw Error(Code::OPTION_INVALID, std::string(name) + ": is no UTF-8 at byte " + std::to_string(invalid) + ".");
  }
  return text;
}

std::vector<std::string> option_texts(const char* const* data, size_t count, const char* name) {
  std::vector<std::string> texts;
  if (count > 0) required(data, name);
  for (size_t i = 0; i < count; ++i) {
    required(data[i], name);
    texts.push_back(option_text(data[i], name));
  }
  return texts;
}

bool is_on(rubricrm_switch value, const char* name, bool otherwise) {
  if (value == RUBRICRM_DEFAULT) return otherwise;
  if (value == RUBRICRM_ON || value == RUBRICRM_OFF) return value == RUBRICRM_ON;
  throw Error(Code::OPTION_INVALID, std::string(name) +
                                        " must be RUBRICRM_DEFAULT, RUBRICRM_ON or RUBRICRM_OFF, got " +
                                        std::to_string(value) + ".");
}

void check_reserved(int32_t reserved, const char* name) {
  if (reserved == 0) return;
  throw Error(Code::OPTION_UNKNOWN, std::string(name) + ".reserved is " + std::to_string(reserved) +
                                        ", expected 0: this library knows no meaning of it. Set the whole struct to 0 "
                                        "before its fields.");
}

void read_struct(const void* given, void* known, size_t known_size, const char* name) {
  size_t size = 0;
  std::memcpy(&size, given, sizeof size);
  // Above this it is a size that was never set.
  constexpr size_t kLargest = 1 << 16;
  if (size < sizeof size || size > kLargest) {
    throw Error(Code::OPTION_INVALID, std::string(name) + ".struct_size is " + std::to_string(size) +
                                          ", expected sizeof of the struct, " + std::to_string(known_size) +
                                          " bytes here. Set it before the call.");
  }
  const char* bytes = static_cast<const char*>(given);
  if (size > known_size && !is_zero(bytes + known_size, size - known_size)) {
    throw Error(Code::OPTION_UNKNOWN, std::string(name) + " has " + std::to_string(size) +
                                          " bytes, of which this library knows " + std::to_string(known_size) +
                                          ", and what is beyond them is not 0. Use a newer library, or leave that "
                                          "option out.");
  }
  std::memcpy(known, given, std::min(size, known_size));
}

}  // namespace rubricrm

using rubricrm::code_name;
using rubricrm::Code;

extern "C" {

const char* rubricrm_version(void) { return RUBRICRM_VERSION; }

uint32_t rubricrm_abi_version(void) { return RUBRICRM_ABI_VERSION; }

const char* rubricrm_code_name(int32_t code) {
  const bool is_known = code >= 0 && code <= static_cast<int32_t>(Code::DEPENDENCY_MISSING);
  return is_known ? code_name(static_cast<Code>(code)) : "UNKNOWN";
}

}  // extern "C"
