// Text in and out of a command.
#pragma once

#include <cstdio>
#include <string>

#include "rubricrm.h"

namespace rubricrm::run {

// A whole file, or standard input for "-", without a byte order mark. std::runtime_error: it cannot be read.
std::string read_text(const std::string& path);

// JSON as the Python command prints it: indented, with a line's end.
void print_json(const char* json);

// One line per criterion and per issue.
void print_rubric(const rubricrm_rubric& rubric);
void print_issues(const rubricrm_rubric& rubric, FILE* stream);

}  // namespace rubricrm::run
