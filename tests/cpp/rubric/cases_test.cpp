// The parser finds in every shared case what the case says, as the tests of the Python package ask of theirs.
#include <filesystem>
#include <fstream>

#include "expect.h"
#include "nlohmann/json.hpp"
#include "rubric/rubric.h"

using nlohmann::json;
using namespace rubricrm;

namespace {

json issues_without_messages(const json& rubric) {
  json issues = json::array();
  for (const json& issue : rubric.at("issues"))
    issues.push_back({{"code", issue.at("code")}, {"line", issue.at("line")}});
  return issues;
}

void check(const std::filesystem::path& path) {
  const json given = json::parse(std::ifstream(path));
  ParseOptions options;
  options.truncated = given.at("truncated");
  options.starts_in_thought = given.value("starts_in_thought", false);
  const json found = json::parse(parse(given.at("text").get<std::string>(), options).to_json());
  EXPECT(found.at("schema_version") == 1, "%s", path.c_str());
  EXPECT(found.at("criteria") == given.at("criteria"), "%s: got %s", path.c_str(), found.at("criteria").dump().c_str());
  const json issues = issues_without_messages(found);
  EXPECT(issues == given.at("issues"), "%s: got %s", path.c_str(), issues.dump().c_str());
}

}  // namespace

int main() {
  int num_cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RUBRICRM_CASES "/rubric")) {
    if (entry.path().extension() != ".json") continue;
    check(entry.path());
    ++num_cases;
  }
  EXPECT(num_cases >= 180, "only %d cases were found", num_cases);
  std::printf("%d cases\n", num_cases);
  return failures == 0 ? 0 : 1;
}
