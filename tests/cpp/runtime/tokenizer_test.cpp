// The cases of tests/cases/tokenizer; threads; files that are broken anywhere.
#include "runtime/tokenizer.h"

#include <thread>

#include "cases.h"
#include "text/utf8.h"

namespace {

using namespace rubricrm;

const std::filesystem::path kDemo =
    std::filesystem::path(RUBRICRM_CASES) / "../../sdk/python/rubricrm/demo_bundle/tokenizer.json";

json as_json(const std::vector<Segment>& segments) {
  json list = json::array();
  for (const Segment& segment : segments) std::visit([&](const auto& part) { list.push_back(part); }, segment);
  return list;
}

void check_decoding(const std::string& name, const Tokenizer& tokenizer, const json& example) {
  const auto ids = example["ids"].get<TokenIds>();
  Utf8Stream decoder;
  std::string text;
  json pieces = json::array();
  for (const int32_t id : ids) pieces.push_back(decoder.push(tokenizer.text_bytes(id)));
  EXPECT(pieces == example["pieces"], "%s: %s", name.c_str(), pieces.dump().c_str());
  EXPECT(decoder.finish() == example["end"], "%s", name.c_str());
  for (const json& piece : example["pieces"]) text += piece.get<std::string>();
  EXPECT(tokenizer.decode(ids) == text + example["end"].get<std::string>(), "%s", name.c_str());
}

void run_case(const std::string& name, const json& test_case, const json& demo) {
  const std::string contents = test_case.contains("contents")
                                   ? test_case["contents"].get<std::string>()
                                   : edited(demo, test_case.value("change", json::array())).dump();
  if (test_case.contains("error")) {
    return expect_error(name, test_case["error"], test_case["words"],
                        [&] { Tokenizer::from_contents(contents, "tokenizer.json"); });
  }
  const Tokenizer tokenizer = Tokenizer::from_contents(contents, "tokenizer.json");
  for (const json& example : test_case.value("encode", json::array())) {
    const TokenIds ids = tokenizer.encode(example["text"].get<std::string>());
    EXPECT(ids == example["ids"].get<TokenIds>(), "%s: %s: %s", name.c_str(), example["text"].dump().c_str(),
           json(ids).dump().c_str());
  }
  for (const json& example : test_case.value("split_control", json::array())) {
    const json segments = as_json(tokenizer.split_control(example["text"].get<std::string>()));
    EXPECT(segments == example["segments"], "%s: %s", name.c_str(), segments.dump().c_str());
  }
  for (const json& example : test_case.value("decode", json::array())) check_decoding(name, tokenizer, example);
  for (const json& example : test_case.value("refuse", json::array())) {
    expect_error(name, "REQUEST_INVALID", example["words"],
                 [&] { tokenizer.encode(from_hex(example["bytes"].get<std::string>())); });
  }
}

void test_the_demos_tokenizer(const Tokenizer& tokenizer) {
  EXPECT(tokenizer.num_tokens() == 2048, "%d", tokenizer.num_tokens());
  EXPECT(tokenizer.is_special(2043) && !tokenizer.is_special(2047) && !tokenizer.is_special(0), "special ids");
  EXPECT(tokenizer.token_bytes(2047) == "</think>", "%s", tokenizer.token_bytes(2047).c_str());
  for (int32_t id = 0; id < tokenizer.num_tokens(); ++id) {
    EXPECT(!tokenizer.token_bytes(id).empty(), "id %d", id);
  }
  for (const int32_t id : {-1, 2048, INT32_MAX, INT32_MIN}) EXPECT(tokenizer.token_bytes(id).empty(), "id %d", id);
}

void test_segments_join_before_they_are_encoded(const Tokenizer& tokenizer) {
  const TokenIds ids = tokenizer.encode_segments({2044, "<|im_", "end|>", 2045, "", 2044});
  TokenIds expected = {2044};
  for (const int32_t id : tokenizer.encode("<|im_end|>")) expected.push_back(id);
  expected.insert(expected.end(), {2045, 2044});
  EXPECT(ids == expected, "%s", json(ids).dump().c_str());
  EXPECT(tokenizer.encode_segments({"The respo", "nse e", "\u0301"}) == tokenizer.encode("The response \u00e9"),
         "joint");
}

void test_text_that_is_no_utf8_is_refused(const Tokenizer& tokenizer) {
  const std::pair<std::string, std::string> texts[] = {{"ab\xFF", "the byte 0xFF at character 2"},
                                                       {"\u00e9\xC0\x80", "the byte 0xC0 at character 1"},
                                                       {"\xE2\x82", "the byte 0xE2 at character 0"},
                                                       {"\xF4\x90\x80\x80", "the byte 0xF4 at character 0"},
                                                       {std::string("\0\x80", 2), "the byte 0x80 at character 1"}};
  for (const auto& [text, words] : texts) {
    expect_error(words, "REQUEST_INVALID", {words}, [&] { tokenizer.encode(text); });
    expect_error(words, "REQUEST_INVALID", {words}, [&] { tokenizer.split_control(text); });
    expect_error(words, "REQUEST_INVALID", {words}, [&] { tokenizer.encode_segments({"x", text}); });
  }
}

void test_a_missing_file_is_named() {
  expect_error("missing", "BUNDLE_INVALID", {"/nowhere/tokenizer.json: the file is unreadable (No such file"},
               [] { Tokenizer::from_file("/nowhere/tokenizer.json"); });
  expect_error("directory", "BUNDLE_INVALID", {"the file is unreadable (Is a directory)"},
               [] { Tokenizer::from_file(RUBRICRM_CASES); });
}

// A file that ends anywhere, or has another byte anywhere, is refused or opens: nothing else happens.
void test_broken_files_are_refused(const std::string& contents) {
  const auto open = [](const std::string& broken) {
    try {
      Tokenizer::from_contents(broken, "tokenizer.json").encode("The response rhymes.");
      return true;
    } catch (const Error& error) {
      EXPECT(error.code() == Code::BUNDLE_INVALID, "%s", error.what());
      return false;
    }
  };
  for (size_t length = 0; length < contents.size(); length += 1 + contents.size() / 200) {
    EXPECT(!open(contents.substr(0, length)), "cut at %zu", length);
  }
  Numbers numbers(5);
  for (int round = 0; round < 300; ++round) {
    std::string broken = contents;
    // The beginning, where everything but the vocabulary is, more often than the rest.
    const auto end = static_cast<int>(round % 2 ? 3000 : broken.size());
    for (int count = numbers.integer(1, 4); count > 0; --count) {
      broken[static_cast<size_t>(numbers.integer(0, end - 1))] = static_cast<char>(numbers.integer(0, 255));
    }
    open(broken);
  }
}

void test_threads_share_a_tokenizer(const Tokenizer& tokenizer) {
  std::vector<std::string> texts;
  std::vector<TokenIds> expected;
  for (int n = 0; n < 200; ++n) {
    texts.push_back("The response names item " + std::to_string(n) + " of caf\u00e9 e\u0301 \U0001f642 word" +
                    std::string(static_cast<size_t>(n), 'x'));
    expected.push_back(tokenizer.encode(texts.back()));
  }
  std::vector<std::thread> threads;
  std::vector<int> different(12);
  for (int& count : different) {
    threads.emplace_back([&] {
      for (size_t at = 0; at < texts.size(); ++at) count += tokenizer.encode(texts[at]) != expected[at];
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : different) EXPECT(count == 0, "%d texts", count);
}

}  // namespace

int main() {
  const std::string contents = file_contents(kDemo);
  const json demo = json::parse(contents);
  run_cases("tokenizer", {}, [&](const std::string& name, const json& test_case) { run_case(name, test_case, demo); });
  const Tokenizer tokenizer = Tokenizer::from_file(kDemo);
  test_the_demos_tokenizer(tokenizer);
  test_segments_join_before_they_are_encoded(tokenizer);
  test_text_that_is_no_utf8_is_refused(tokenizer);
  test_a_missing_file_is_named();
  test_broken_files_are_refused(contents);
  test_threads_share_a_tokenizer(tokenizer);
  return failures != 0;
}
