// The cases of tests/cases/bundle: one rule of docs/BUNDLE.md each.
#include <algorithm>
#include <vector>

#include "error.h"
#include "expect.h"
#include "runtime/graph_choice.h"
#include "runtime/json_document.h"
#include "runtime/manifest_reader.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

const fs::path kCases = fs::path(RUBRICRM_CASES) / "bundle";

Json read_json(const fs::path& path) { return Json::parse(read_text(path)); }

Json& step(Json& node, const Json& key) {
  return key.is_number() ? node[key.get<size_t>()] : node[key.get<std::string>()];
}

Json edited(Json document, const Json& changes) {
  for (const Json& change : changes) {
    Json* node = &document;
    const Json& path = change["at"];
    for (size_t n = 0; n + 1 < path.size(); ++n) node = &step(*node, path[n]);
    if (change.contains("value")) {
      step(*node, path.back()) = change["value"];
    } else {
      node->erase(path.back().get<std::string>());
    }
  }
  return document;
}

GraphChoice read_and_choose(const Json& document, const Json& given) {
  const Manifest manifest = read_manifest(document.dump(), "bundle/rubricrm.json");
  Kernels kernels;
  kernels.operators = given.value("kernels", std::string());
  if (kernels.operators.empty()) kernels.problem = "it is not here";
  const auto missing = given.value("missing", std::vector<std::string>());
  const auto device_problem = [&](const std::string& device) {
    const bool is_missing = std::find(missing.begin(), missing.end(), device) != missing.end();
    return is_missing ? Problem("it is not here") : std::nullopt;
  };
  return choose_graph(manifest.graphs, given.value("device", std::string()), "bundle",
                      {kernels, device_problem});
}

void check(const std::string& name, const Json& manifest, const Json& given) {
  const Json& expected = given["expect"];
  try {
    const GraphChoice choice = read_and_choose(edited(manifest, given["change"]), given);
    EXPECT(!expected.contains("error"), "%s: %s was chosen", name.c_str(), choice.graph.file.c_str());
    if (expected.contains("error")) return;
    EXPECT(choice.graph.file == expected["graph"] && choice.device == expected["device"], "%s: %s on %s", name.c_str(),
           choice.graph.file.c_str(), choice.device.c_str());
  } catch (const Error& error) {
    EXPECT(expected.contains("error") && expected["error"] == code_name(error.code()), "%s: %s: %s", name.c_str(),
           code_name(error.code()), error.what());
    for (const Json& word : expected.value("words", Json::array())) {
      EXPECT(std::string(error.what()).find(word.get<std::string>()) != std::string::npos, "%s: %s lacks %s",
             name.c_str(), error.what(), word.dump().c_str());
    }
  }
}

}  // namespace

int main() {
  const Json manifest = read_json(kCases / "manifest.json");
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kCases)) {
    const fs::path& path = entry.path();
    if (path.extension() != ".json" || path.stem() == "manifest") continue;
    check(path.stem().string(), manifest, read_json(path));
    ++count;
  }
  std::printf("%d cases\n", count);
  EXPECT(count >= 40, "only %d cases were found", count);
  return failures != 0;
}
