// Expectations of errors: code and words.
#pragma once

#include <functional>
#include <string>

#include "error.h"
#include "expect.h"

// Expects an error of a code whose text holds some words.
inline void expect_error(rubricrm::Code code, const std::string& words, const std::function<void()>& act,
                         const std::string& about = "") {
  try {
    act();
    EXPECT(false, "%s: no error, expected %s with \"%s\"", about.c_str(), rubricrm::code_name(code), words.c_str());
  } catch (const rubricrm::Error& error) {
    EXPECT(error.code() == code && std::string(error.what()).find(words) != std::string::npos,
           "%s: got %s: %s; expected %s with \"%s\"", about.c_str(), rubricrm::code_name(error.code()), error.what(),
           rubricrm::code_name(code), words.c_str());
  } catch (const std::exception& error) {
    EXPECT(false, "%s: an untyped error: %s", about.c_str(), error.what());
  }
}
