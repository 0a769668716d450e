// The commands of rubricrm-run. Each returns its exit code: 0, 1 for work that failed, 2 for bad input, 3 for a rubric
// that is incomplete. Errors of the library leave them as rubricrm::Failure.
#pragma once

#include <string>
#include <vector>

namespace rubricrm::run {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;
constexpr int kIncomplete = 3;

int generate(const std::vector<std::string>& words);
int parse(const std::vector<std::string>& words);
int inspect(const std::vector<std::string>& words);

extern const char* const kGenerateHelp;
extern const char* const kParseHelp;
extern const char* const kInspectHelp;

}  // namespace rubricrm::run
