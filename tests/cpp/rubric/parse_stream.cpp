// Reads texts from standard input and prints what the parser finds, for tests that compare it with Python.
//
// A text is a line `FLAGS LENGTH` and that many bytes; FLAGS are letters or "-": t truncated, i starts in thought, s
// strict, r render, j JSON with an indent. The answer to each is one line of JSON: the rubric with the spans of its
// criteria, or the error's code and message; "streamed" says whether the text, fed in pieces, gave the same criteria.
//
// With the argument "form" it prints the regular expression and the grammar of 1 to 64 items, one line of JSON each.
#include <cstdio>
#include <iostream>
#include <string>

#include "error.h"
#include "generation/rubric_stream.h"
#include "nlohmann/json.hpp"
#include "rubric/form.h"
#include "rubric/rubric.h"

using namespace rubricrm;

namespace {

nlohmann::json spans_of(const std::vector<Criterion>& criteria) {
  nlohmann::json spans = nlohmann::json::array();
  for (const Criterion& criterion : criteria) {
    const Span& span = criterion.span;
    spans.push_back({span.start, span.end, span.line, span.column});
  }
  return spans;
}

// The criteria that a stream gives out and does not take back, where the text comes in pieces of growing length.
std::vector<Criterion> streamed(const std::string& text, const ParseOptions& options) {
  RubricStream stream(options.starts_in_thought);
  std::vector<Criterion> given;
  const auto take = [&given](const StreamEvent& event) {
    if (event.takes_back) given.clear();
    given.insert(given.end(), event.criteria.begin(), event.criteria.end());
  };
  for (size_t start = 0, length = 1; start < text.size(); start += length, length += 7) {
    take(stream.feed(text.substr(start, length)));
  }
  take(stream.finish(options.truncated));
  return given;
}

nlohmann::json answer(const std::string& text, const std::string& flags) {
  const auto has = [&flags](char flag) { return flags.find(flag) != std::string::npos; };
  const ParseOptions options = {has('t'), has('i'), has('s')};
  try {
    const Rubric rubric = parse(text, options);
    nlohmann::json result = {{"json", rubric.to_json()}, {"spans", spans_of(rubric.criteria)}};
    result["streamed"] = streamed(text, options) == rubric.criteria;
    if (has('j')) result["indented"] = rubric.to_json(2);
    if (has('r')) result["rendered"] = rubric.render();
    return result;
  } catch (const Error& error) {
    return {{"error", std::string(code_name(error.code())) + ": " + error.what()}};
  }
}

void print(const nlohmann::json& value) {
  const std::string line = value.dump();
  std::printf("%s\n", line.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "form") {
    for (int max_items = 1; max_items <= 64; ++max_items) print({form_regex(max_items), form_gbnf(max_items)});
    return 0;
  }
  std::string flags;
  for (size_t length = 0; std::cin >> flags >> length;) {
    std::cin.get();
    std::string text(length, '\0');
    std::cin.read(text.data(), static_cast<std::streamsize>(length));
    print(answer(text, flags));
  }
  return 0;
}
