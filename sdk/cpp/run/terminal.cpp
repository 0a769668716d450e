#include "run/terminal.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "text/json_text.h"
#include "run/arguments.h"

namespace rubricrm::run {

std::string read_text(const std::string& path) {
  std::string text;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) throw UsageError("File '" + path + "' is a directory.");
    std::ifstream file(path, std::ios::binary);
    if (!file && errno == ENOENT) throw UsageError("File '" + path + "' does not exist.");
    if (!file) throw UsageError("File '" + path + "' cannot be read: " + std::strerror(errno) + ".");
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  const std::string mark = "\xEF\xBB\xBF";
  return text.rfind(mark, 0) == 0 ? text.substr(mark.size()) : text;
}

void print_json(const char* json) {
  const std::string text = json_text(nlohmann::ordered_json::parse(json), 2) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void print_rubric(const rubricrm_rubric& rubric) {
  for (size_t i = 0; i < rubric.num_criteria; ++i) {
    const rubricrm_criterion& criterion = rubric.criteria[i];
    const std::string number = criterion.number < 0 ? "-" : std::to_string(criterion.number);
    const char* tag = criterion.kind == RUBRICRM_HARD_RULE   ? "[Hard Rule]"
                      : criterion.kind == RUBRICRM_PRINCIPLE ? "[Principle]"
                                                             : "[no tag]";
    std::printf("%s. %s %s\n", number.c_str(), criterion.text.data, tag);
  }
  print_issues(rubric, stdout);
}

void print_issues(const rubricrm_rubric& rubric, FILE* stream) {
  for (size_t i = 0; i < rubric.num_issues; ++i) {
    const rubricrm_issue& issue = rubric.issues[i];
    std::fprintf(stream, "line %u: %s: %s\n", issue.line, issue.code, issue.message.data);
  }
}

}  // namespace rubricrm::run
