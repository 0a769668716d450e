// The reader takes the documents that a parser of JSON takes, with the same strings, and no others.
#include "text/json_reader.h"

#include <nlohmann/json.hpp>

#include "expect.h"

namespace {

using namespace rubricrm;
using nlohmann::json;

json read_value(JsonReader& reader) {
  switch (reader.peek()) {
    case '{': {
      json object = json::object();
      reader.read_object([&](std::string_view key) {
        const std::string name(key);
        object[name] = read_value(reader);
      });
      return object;
    }
    case '[': {
      json array = json::array();
      reader.read_array([&] { array.push_back(read_value(reader)); });
      return array;
    }
    case '"':
      return std::string(reader.read_string());
    default:
      return json::parse(reader.skip());
  }
}

// What both readers make of a document; null values of C++ where one refuses it.
void compare(const std::string& document) {
  const json expected = json::parse(document, nullptr, false);
  bool is_read = false, is_skipped = false;
  json found;
  try {
    JsonReader reader(document);
    found = read_value(reader);
    reader.finish();
    is_read = true;
  } catch (const JsonError&) {
  }
  try {
    JsonReader reader(document);
    reader.skip();
    reader.finish();
    is_skipped = true;
  } catch (const JsonError&) {
  }
  EXPECT(is_read == !expected.is_discarded(), "%s", document.c_str());
  EXPECT(is_skipped == is_read, "%s", document.c_str());
  EXPECT(!is_read || found == expected, "%s: %s", document.c_str(), found.dump().c_str());
}

void test_documents_are_read_as_by_a_parser() {
  for (const char* document : {"",
                               " ",
                               "null",
                               "true",
                               "false",
                               "nul",
                               "truex",
                               "0",
                               "-0",
                               "01",
                               "-",
                               "1.",
                               "1.5",
                               ".5",
                               "1e5",
                               "1e",
                               "1E+5",
                               "+1",
                               "1e-",
                               "\"\"",
                               "\"a",
                               "\"\\",
                               "\"\\u",
                               "\"\\u12\"",
                               "\"\\u00e9\\n\\/\\\\\\\"\"",
                               "\"\\x\"",
                               "\"\x01\"",
                               "\"\\ud83d\\ude42\"",
                               "\"\\ud83d\"",
                               "\"\\ude42\"",
                               "\"\\ud83d\\u0041\"",
                               "\"\\ud83dx\"",
                               "\"\u00e9\U0001f642\"",
                               "\"\xFF\"",
                               "\"a\xED\xA0\x80\"",
                               "\"\\n\xC0\x80\"",
                               "{}",
                               "{\"a\":1}",
                               "{\"a\":1,}",
                               "{a:1}",
                               "{\"a\"}",
                               "{\"a\":}",
                               "{\"a\":1 \"b\":2}",
                               "{,}",
                               "[]",
                               "[1,2]",
                               "[1,]",
                               "[1 2]",
                               "[",
                               "]",
                               "[[[]]]",
                               "[{\"a\":[{}]}]",
                               "1 2",
                               "[]x",
                               "\t\r\n [ 1 , \"x\" ] ",
                               "\xEF\xBB\xBF[1]",
                               "NaN",
                               "Infinity",
                               "{\"\\u0061\":2}",
                               "{\"a\":1,\"a\":2}",
                               "'a'"}) {
    compare(document);
  }
}

void test_broken_documents_are_read_as_by_a_parser() {
  const std::string document =
      R"({"model": {"vocab": {"\u0120the": 12, "é": -3.5e2}, "x": [true, false, null, "\ud83d\ude42\\"]}, "a": []})";
  Numbers numbers(17);
  compare(document);
  for (size_t length = 0; length < document.size(); ++length) compare(document.substr(0, length));
  const std::string signs = "{}[]\",:\\u019-.eEtfn \x01\xC3\xA9\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::string broken = document;
    for (int count = numbers.integer(1, 3); count > 0; --count) {
      const auto at = static_cast<size_t>(numbers.integer(0, static_cast<int>(broken.size()) - 1));
      const char sign = signs[static_cast<size_t>(numbers.integer(0, static_cast<int>(signs.size()) - 1))];
      switch (numbers.integer(0, 2)) {
        case 0:
          broken[at] = sign;
          break;
        case 1:
          broken.insert(at, 1, sign);
          break;
        default:
          broken.erase(at, 1);
      }
    }
    compare(broken);
  }
}

void test_integers() {
  const auto integer = [](const char* text) { return JsonReader(text).read_integer(); };
  EXPECT(integer("12") == 12 && integer("-0") == 0 && integer("9223372036854775807") == INT64_MAX, "integers");
  for (const char* text : {"1.0", "1e2", "9223372036854775808", "\"1\"", "true", "null", "[1]"}) {
    EXPECT(!integer(text), "%s", text);
  }
}

void test_depth_is_limited() {
  const auto is_read = [](int depth) {
    const std::string document = std::string(depth, '[') + std::string(depth, ']');
    JsonReader reader(document);
    try {
      reader.skip();
      return true;
    } catch (const JsonError&) {
      return false;
    }
  };
  EXPECT(is_read(500) && !is_read(501) && !is_read(1000000), "depth");
}

}  // namespace

int main() {
  test_documents_are_read_as_by_a_parser();
  test_broken_documents_are_read_as_by_a_parser();
  test_integers();
  test_depth_is_limited();
  return failures != 0;
}
