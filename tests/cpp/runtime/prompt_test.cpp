// The cases of tests/cases/prompt, and requests that are no UTF-8.
#include "runtime/prompt.h"

#include "cases.h"

namespace {

using namespace rubricrm;

std::optional<RoleFacts> pieces(const json& role) {
  if (role.is_null()) return std::nullopt;
  return RoleFacts{role["before"], role["after"]};
}

Prompt changed_prompt(const json& base, const json& change, const Tokenizer& tokenizer) {
  json chat = base["chat"], prompt = base;
  chat.update(change.value("chat", json::object()));
  prompt.update(change);
  const ChatFacts chat_pieces{chat["opening"], pieces(chat["system"]), *pieces(chat["user"]),
                               pieces(chat["assistant"]), chat["generation"], false};
  PromptFacts facts;
  facts.fields = prompt["fields"].get<std::map<std::string, std::string>>();
  facts.template_text = prompt["template"];
  facts.template_source = "template.txt";
  return Prompt(facts, chat_pieces, tokenizer);
}

std::string text_of(const json& example, const char* key) {
  return example.contains("bytes") ? from_hex(example["bytes"].get<std::string>()) : example[key].get<std::string>();
}

std::vector<Message> messages_of(const json& example) {
  std::vector<Message> messages;
  for (const json& message : example["messages"]) messages.push_back({message["role"], text_of(message, "content")});
  return messages;
}

void run_case(const std::string& name, const json& test_case, const json& base, const Tokenizer& tokenizer) {
  const json change = test_case.value("change", json::object());
  if (test_case.contains("error")) {
    return expect_error(name, test_case["error"], test_case["words"], [&] { changed_prompt(base, change, tokenizer); });
  }
  const Prompt prompt = changed_prompt(base, change, tokenizer);
  for (const json& example : test_case.value("requests", json::array())) {
    const TokenIds ids = prompt.encode_request(example["text"].get<std::string>());
    EXPECT(ids == example["ids"].get<TokenIds>(), "%s: %s", name.c_str(), json(ids).dump().c_str());
  }
  for (const json& example : test_case.value("conversations", json::array())) {
    const TokenIds ids = prompt.encode_messages(messages_of(example));
    EXPECT(ids == example["ids"].get<TokenIds>(), "%s: %s", name.c_str(), json(ids).dump().c_str());
  }
  if (test_case.contains("fixed_prefix")) {
    EXPECT(prompt.fixed_prefix() == test_case["fixed_prefix"].get<TokenIds>(), "%s: %s", name.c_str(),
           json(prompt.fixed_prefix()).dump().c_str());
  }
  for (const json& example : test_case.value("refused", json::array())) {
    expect_error(name, example["error"], example["words"], [&] {
      if (example.contains("messages")) {
        prompt.encode_messages(messages_of(example));
      } else {
        prompt.encode_request(text_of(example, "text"));
      }
    });
  }
}

void test_a_request_that_is_no_utf8_is_refused(const Prompt& prompt) {
  expect_error("byte", "REQUEST_INVALID", {"request: holds the byte 0xFF at character 2, which UTF-8 cannot express."},
               [&] { prompt.encode_request("ab\xFF"); });
  expect_error("blank and byte", "REQUEST_INVALID", {"the byte 0xC0 at character 1"},
               [&] { prompt.encode_request(" \xC0\x80"); });
  expect_error("cut", "REQUEST_INVALID", {"messages[0].content: holds the byte 0xE2 at character 0"}, [&] {
    prompt.encode_messages({{"user", "\xE2\x82"}});
  });
}

void test_a_template_without_its_placeholder_is_refused(const json& base, const Tokenizer& tokenizer) {
  for (const char* text : {"Say something.", "{prompt} and {prompt}", ""}) {
    expect_error(text, "BUNDLE_INVALID",
                 {"\"template\" of the prompt from template.txt does not hold '{prompt}' exactly"}, [&] {
                   changed_prompt(base, {{"template", text}}, tokenizer);
                 });
  }
  expect_error("empty", "BUNDLE_INVALID", {"does not hold '' exactly once"}, [&] {
    changed_prompt(base, {{"fields", {{"request", ""}}}}, tokenizer);
  });
}

void test_a_common_prefix_ends_where_ids_differ() {
  EXPECT(common_prefix({}, {5}) == 0 && common_prefix({1, 2}, {1, 2, 3}) == 2 && common_prefix({1, 2, 3}, {1, 2}) == 2,
         "one begins the other");
  EXPECT(common_prefix({1, 2}, {1, 9, 3}) == 1 && common_prefix({4}, {5}) == 0, "they differ");
}

}  // namespace

int main() {
  const std::filesystem::path cases(RUBRICRM_CASES);
  const Tokenizer tokenizer = Tokenizer::from_file(cases / "../../sdk/python/rubricrm/demo_bundle/tokenizer.json");
  const json base = json::parse(file_contents(cases / "prompt" / "base.json"));
  run_cases("prompt", {"base"},
            [&](const std::string& name, const json& test_case) { run_case(name, test_case, base, tokenizer); });
  test_a_request_that_is_no_utf8_is_refused(changed_prompt(base, json::object(), tokenizer));
  test_a_template_without_its_placeholder_is_refused(base, tokenizer);
  test_a_common_prefix_ends_where_ids_differ();
  return failures != 0;
}
