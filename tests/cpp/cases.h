// Shared cases: files of JSON under tests/cases, which the tests of Python run too.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "error.h"
#include "expect.h"

using nlohmann::json;

inline std::string file_contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream contents;
  contents << file.rdbuf();
  if (!file) EXPECT(false, "%s cannot be read", path.c_str());
  return contents.str();
}

// Runs each file of a folder of tests/cases; those named in `others` are no cases.
inline void run_cases(const std::string& folder, const std::vector<std::string>& others,
                      const std::function<void(const std::string& name, const json& test_case)>& run) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(RUBRICRM_CASES) / folder)) {
    const std::string name = entry.path().stem();
    if (entry.path().extension() != ".json" || std::count(others.begin(), others.end(), name) != 0) continue;
    run(name, json::parse(file_contents(entry.path())));
    ++count;
  }
  EXPECT(count > 0, "no cases in %s", folder.c_str());
}

// The document after a case's edits.
inline json edited(json document, const json& changes) {
  for (const json& change : changes) {
    json* node = &document;
    json path = change["at"];
    const json last = path.back();
    path.erase(path.size() - 1);
    for (const json& part : path)
      node = part.is_string() ? &(*node)[part.get<std::string>()] : &(*node)[part.get<size_t>()];
    if (!change.contains("value")) {
      node->erase(last.get<std::string>());
    } else if (last.is_string()) {
      (*node)[last.get<std::string>()] = change["value"];
    } else {
      (*node)[last.get<size_t>()] = change["value"];
    }
  }
  return document;
}

inline std::string from_hex(const std::string& digits) {
  std::string bytes;
  for (size_t at = 0; at < digits.size(); at += 2) {
    bytes.push_back(static_cast<char>(std::stoi(digits.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

// Expects an error of this code whose message holds all words.
inline void expect_error(const std::string& name, const std::string& code, const json& words,
                         const std::function<void()>& fails) {
  try {
    fails();
    EXPECT(false, "%s: nothing was refused", name.c_str());
  } catch (const rubricrm::Error& error) {
    EXPECT(code == rubricrm::code_name(error.code()), "%s: %s", name.c_str(), rubricrm::code_name(error.code()));
    for (const json& word : words) {
      EXPECT(std::string(error.what()).find(word.get<std::string>()) != std::string::npos, "%s: %s", name.c_str(),
             error.what());
    }
  }
}
