// The manifest: whatever is wrong is named.
#include <functional>

#include "expect_error.h"
#include "runtime/json_document.h"
#include "runtime/manifest_reader.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

const Json kDocument = Json::parse(read_text(fs::path(RUBRICRM_CASES) / "bundle/manifest.json"));
const char* const kWhere = "bundle/rubricrm.json";

// Objects whose keys are names, or that may hold anything.
bool is_mapping(const std::string& path) {
  for (const char* known :
       {"/files", "/graphs/0/requires/domains", "/graphs/1/requires/domains", "/prompts", "/prompts/rubric/fields",
        "/prompts/rubric/prefix/files", "/provenance/source/files", "/provenance/tools", "/extensions",
        "/graphs/0/extensions", "/graphs/1/extensions", "/prompts/rubric/extensions"}) {
    if (path == known) return true;
  }
  return false;
}

// A key's path as messages write it: "graphs[0].file".
std::string named(const std::string& pointer) {
  std::string text;
  for (size_t start = 1; start <= pointer.size();) {
    const size_t end = std::min(pointer.find('/', start), pointer.size());
    const std::string part = pointer.substr(start, end - start);
    const bool is_index = part.find_first_not_of("0123456789") == std::string::npos;
    text += is_index ? "[" + part + "]" : (text.empty() ? "" : ".") + part;
    start = end + 1;
  }
  return text;
}

void visit(const Json& node, const std::string& path, const std::function<void(const std::string&, bool)>& act) {
  if (!node.is_object() && !(node.is_array() && !node.empty() && node[0].is_object())) return;
  for (const auto& item : node.items()) {
    const std::string below = path + "/" + item.key();
    act(below, node.is_object() && !is_mapping(path));
    visit(item.value(), below, act);
  }
}

Json changed(const std::string& path, const Json& value) {
  Json document = kDocument;
  document[Json::json_pointer(path)] = value;
  return document;
}

void expect_refused(const std::string& words, const Json& document, const std::string& about,
                    Code code = Code::BUNDLE_INVALID) {
  expect_error(code, words, [&] { read_manifest(document.dump(), kWhere); }, about);
}

void test_every_key_is_required_and_of_its_type() {
  visit(kDocument, "", [](const std::string& path, bool is_member) {
    const bool is_format = path == "/format" || path == "/format_version";
    const Json right = kDocument.at(Json::json_pointer(path));
    const Code code = path == "/format_version" ? Code::BUNDLE_VERSION_UNSUPPORTED : Code::BUNDLE_INVALID;
    if (is_member) {
      Json document = kDocument;
      document.at(Json::json_pointer(path).parent_pointer()).erase(path.substr(path.rfind('/') + 1));
      expect_refused("\"" + named(path) + "\"", document, path, code);
    }
    for (const Json& wrong : {Json(), Json(true), Json(3), Json(0.5), Json("text"), Json::array(), Json::object()}) {
      const bool may_be =
          right.type_name() == std::string(wrong.type_name()) && right.is_number_float() == wrong.is_number_float();
      if (may_be || right.is_null() || is_format) continue;
      const bool may_be_null = path == "/graphs/0/data_file" || path == "/graphs/1/data_file";
      if (wrong.is_null() && may_be_null) continue;
      expect_refused("\"" + named(path), changed(path, wrong), path + " = " + wrong.dump());
    }
  });
}

void test_every_unknown_key_is_named() {
  visit(kDocument, "", [](const std::string& path, bool) {
    if (!kDocument.at(Json::json_pointer(path)).is_object() || is_mapping(path)) return;
    expect_refused("\"" + named(path) + ".colour\" is not a key", changed(path + "/colour", 1), path);
  });
}

void test_values_out_of_range() {
  const struct {
    const char* path;
    Json value;
  } wrong[] = {
      {"/model/num_layers", 0},
      {"/model/vocab_size", -1},
      {"/model/context_length", 18446744073709551615u},
      {"/model/hidden_size", 1e30},
      {"/tokenizer/num_tokens", 301},
      {"/tokenizer/num_tokens", 0},
      {"/prompts/rubric/stop_ids", Json::array()},
      {"/prompts/rubric/stop_ids", {-1}},
      {"/prompts/rubric/stop_ids", {300}},
      {"/prompts/rubric/stop_ids", {4294967298}},
      {"/prompts/rubric/prefix/num_tokens", 64},
      {"/prompts/rubric/prefix/num_tokens", -1},
      {"/prompts/rubric/template", "no field"},
      {"/prompts/rubric/template", "{prompt} {prompt}"},
      {"/prompts/rubric/template_sha256", std::string(64, '0')},
      {"/prompts/rubric/grammar", "other.npz"},
      {"/prompts/rubric/phrases", "other.npz"},
      {"/generation/max_new_tokens", 0},
  };
  for (const auto& [path, value] : wrong) {
    expect_refused("\"" + named(path) + "\" is ", changed(path, value), std::string(path) + " = " + value.dump());
  }
  expect_refused("\"quality.kl\"", changed("/quality", {{"kl", 9007199254740994}}), "a whole number beyond a double");
  read_manifest(changed("/quality", {{"top1_agreement", 1}}).dump(), kWhere);
}

void test_file_names_are_plain() {
  const Json facts{{"size", 1}, {"sha256", std::string(64, '0')}};
  for (const char* name : {"../x", "..", ".", "", "/etc/passwd", "a/b", ".hidden", "a\\b", "C:x", "a\n", "-o", "a b"}) {
    Json document = kDocument;
    document["files"][name] = facts;
    expect_refused("\"files\"", document, name);
  }
  Json document = kDocument;
  document["files"][std::string("a\0b", 3)] = facts;
  expect_refused("\"files\"", document, "a NUL");
  document = kDocument;
  document["files"]["more.bin"] = {{"size", -1}, {"sha256", std::string(64, 'A')}};
  expect_refused("\"files.more.bin.", document, "size and hash");
}

void test_versions() {
  for (const Json& version : {Json(0), Json(-1), Json(), Json(true), Json("2"), Json(2.5)}) {
    expect_refused("Export the bundle again", changed("/format_version", version), version.dump(),
                   Code::BUNDLE_VERSION_UNSUPPORTED);
  }
  expect_refused("Upgrade", changed("/format_version", 99), "newer", Code::BUNDLE_VERSION_UNSUPPORTED);
  expect_refused("\"format_version\"", changed("/format_version", 2.0), "a fraction");
  expect_refused("is not \"rubricrm-bundle\"", changed("/format", "other"), "another program's");
}

void test_what_is_no_json() {
  const std::string text = kDocument.dump();
  const std::string extended = text.substr(0, text.rfind("\"extensions\"")) + "\"extensions\":";
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  const struct {
    std::string text, words;
  } wrong[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"null", "\"format\""},
      {"[]", "\"format\""},
      {"1", "\"format\""},
      {std::string(100000, '['), "not JSON"},
      {std::string(5000, '9'), "bundle"},
      {"{\"format\": NaN}", "not JSON"},
      {"{} {}", "not JSON"},
      {"{\"a\": \"\xff\"}", "not JSON"},
      {"{\"a\": 1e999}", "not JSON"},
      {"{\"a\": \"\\ud800\"}", "not JSON"},
      {text.substr(0, text.size() / 2), "not JSON"},
      {"{\"format\":\"rubricrm-bundle\"," + text.substr(1), "stands twice"},
      {"{\"extensions\":{\"a\":" + deep + "}," + text.substr(1), "nested too deeply"},
  };
  for (const auto& [contents, words] : wrong) {
    expect_error(Code::BUNDLE_INVALID, words, [&] { read_manifest(contents, kWhere); }, contents.substr(0, 40));
  }
}

void test_python_text() {
  EXPECT(python_text({nullptr, true, 1, "a'b", {{"k", 0.5}}}) == "[None, True, 1, \"a'b\", {'k': 0.5}]", "%s",
         python_text({nullptr, true, 1, "a'b", {{"k", 0.5}}}).c_str());
  EXPECT(python_text("äöü", 3) == "'äö", "%s", python_text("äöü", 3).c_str());
}

}  // namespace

int main() {
  read_manifest(kDocument.dump(), kWhere);
  test_every_key_is_required_and_of_its_type();
  test_every_unknown_key_is_named();
  test_values_out_of_range();
  test_file_names_are_plain();
  test_versions();
  test_what_is_no_json();
  test_python_text();
  return failures != 0;
}
