// Memory that runs out at each allocation of a call: the call says so, whatever it was about to say.
#include <climits>
#include <string>

#include "expect.h"
#include "failing_memory.h"
#include "rubricrm.hpp"

namespace {

// Calls until no allocation fails any more. `call` frees what it was given, and returns its code.
template <typename Call>
void expect_typed(const char* name, rubricrm_code expected, Call call) {
  long allocation = 0;
  for (bool has_failed = true; has_failed && allocation < 100000; ++allocation) {
    rubricrm_error error;
    num_left = allocation;
    num_failing = LONG_MAX;
    const rubricrm_code code = call(&error);
    has_failed = num_failing < LONG_MAX;
    num_left = num_failing = 0;
    if (code == expected) continue;
    EXPECT(code == RUBRICRM_RUNTIME_FAILED && std::string(error.message).rfind("memory ran out", 0) == 0,
           "%s, allocation %ld: code %d, %s", name, allocation, code, error.message);
  }
  EXPECT(allocation > 2 && allocation < 100000, "%s: %ld allocations were tried", name, allocation);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const rubricrm::Prompt prompt(argv[1]);
  const char* text = "1. The response is a haiku of three lines. [Hard Rule]\n2. It rhymes. [Principle]\n- and more";
  expect_typed("parse", RUBRICRM_OK, [&](rubricrm_error* error) {
    const rubricrm_rubric* rubric = nullptr;
    const rubricrm_code code = rubricrm_parse(text, RUBRICRM_NUL_TERMINATED, nullptr, &rubric, error);
    rubricrm_rubric_free(rubric);
    return code;
  });
  expect_typed("encode", RUBRICRM_OK, [&](rubricrm_error* error) {
    const rubricrm_ids* ids = nullptr;
    const rubricrm_code code = rubricrm_encode_request(prompt.get(), text, RUBRICRM_NUL_TERMINATED, &ids, error);
    rubricrm_ids_free(ids);
    return code;
  });
  expect_typed("form", RUBRICRM_OK, [&](rubricrm_error* error) {
    const rubricrm_text* written = nullptr;
    const rubricrm_code code = rubricrm_form_regex(3, &written, error);
    rubricrm_text_free(written);
    return code;
  });
  expect_typed("a bad request", RUBRICRM_REQUEST_INVALID, [&](rubricrm_error* error) {
    const rubricrm_ids* ids = nullptr;
    const char* bad = "a\xFF of which a message tells";
    return rubricrm_encode_request(prompt.get(), bad, RUBRICRM_NUL_TERMINATED, &ids, error);
  });
  return failures != 0;
}
