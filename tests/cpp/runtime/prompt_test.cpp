// The cases of tests/cases/prompt, and requests that are no UTF-8.
#include "runtime/prompt.h"

#include "cases.h"
#include "runtime/conversation.h"

namespace {

using namespace rubricrm;

std::optional<RoleFacts> pieces(const json& role) {
  if (role.is_null()) return std::nullopt;
  return RoleFacts{role["before"], role["after"]};
}

ChatFacts changed_chat(const json& base, const json& change) {
  json chat = base["chat"];
  chat.update(change.value("chat", json::object()));
  return {chat["opening"], pieces(chat["system"]), *pieces(chat["user"]), pieces(chat["assistant"]), chat["generation"],
          false};
}

Prompt changed_prompt(const json& base, const json& change, const Tokenizer& tokenizer,
                      const std::string& name = kRubricPrompt) {
  json prompt = base;
  prompt.update(change);
  PromptFacts facts;
  facts.fields = prompt["fields"].get<std::map<std::string, std::string>>();
  facts.template_text = prompt["template"];
  facts.template_source = "template.txt";
  return Prompt(name, facts, changed_chat(base, change), tokenizer);
}

std::string text_of(const json& example, const char* key) {
  return example.contains("bytes") ? from_hex(example["bytes"].get<std::string>()) : example[key].get<std::string>();
}

std::vector<Message> messages_of(const json& example) {
  std::vector<Message> messages;
  for (const json& message : example["messages"]) messages.push_back({message["role"], text_of(message, "content")});
  return messages;
}

TokenIds encode(const Prompt& prompt, const std::string& request) { return prompt.encode({{"request", request}}); }

void run_case(const std::string& name, const json& test_case, const json& base, const Tokenizer& tokenizer) {
  const json change = test_case.value("change", json::object());
  if (test_case.contains("error")) {
    return expect_error(name, test_case["error"], test_case["words"], [&] { changed_prompt(base, change, tokenizer); });
  }
  const Prompt prompt = changed_prompt(base, change, tokenizer);
  const ChatFacts chat = changed_chat(base, change);
  const Conversation conversation(chat, tokenizer);
  for (const json& example : test_case.value("requests", json::array())) {
    const TokenIds ids = encode(prompt, example["text"].get<std::string>());
    EXPECT(ids == example["ids"].get<TokenIds>(), "%s: %s", name.c_str(), json(ids).dump().c_str());
  }
  for (const json& example : test_case.value("conversations", json::array())) {
    const TokenIds ids = conversation.encode(messages_of(example));
    EXPECT(ids == example["ids"].get<TokenIds>(), "%s: %s", name.c_str(), json(ids).dump().c_str());
  }
  if (test_case.contains("fixed_prefix")) {
    EXPECT(prompt.fixed_prefix() == test_case["fixed_prefix"].get<TokenIds>(), "%s: %s", name.c_str(),
           json(prompt.fixed_prefix()).dump().c_str());
  }
  for (const json& example : test_case.value("refused", json::array())) {
    expect_error(name, example["error"], example["words"], [&] {
      if (example.contains("messages")) {
        conversation.encode(messages_of(example));
      } else {
        encode(prompt, text_of(example, "text"));
      }
    });
  }
}

void test_a_request_that_is_no_utf8_is_refused(const json& base, const Tokenizer& tokenizer) {
  const Prompt prompt = changed_prompt(base, json::object(), tokenizer);
  const ChatFacts chat = changed_chat(base, json::object());
  expect_error("byte", "REQUEST_INVALID", {"request: holds the byte 0xFF at character 2, which UTF-8 cannot express."},
               [&] { encode(prompt, "ab\xFF"); });
  expect_error("blank and byte", "REQUEST_INVALID", {"the byte 0xC0 at character 1"},
               [&] { encode(prompt, " \xC0\x80"); });
  expect_error("cut", "REQUEST_INVALID", {"messages[0].content: holds the byte 0xE2 at character 0"}, [&] {
    Conversation(chat, tokenizer).encode({{"user", "\xE2\x82"}});
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

void test_a_prompt_of_two_fields(const json& base, const Tokenizer& tokenizer) {
  const json change{{"fields", {{"first", "{1}"}, {"second", "{2}"}}}, {"template", "Say {2} before {1}."}};
  const Prompt prompt = changed_prompt(base, change, tokenizer, "judge");
  EXPECT(prompt.render({{"first", "{2}"}, {"second", "b"}}) == "Say b before {2}.", "values are no templates");
  const TokenIds ids = prompt.encode({{"second", "b"}, {"first", "a"}}), prefix = prompt.fixed_prefix();
  EXPECT(ids == prompt.encode({{"first", "a"}, {"second", "b"}}), "in any order");
  EXPECT(ids != prompt.encode({{"first", "b"}, {"second", "a"}}), "each at its own place");
  EXPECT(!prefix.empty() && common_prefix(prefix, ids) == prefix.size(), "%zu ids begin it", prefix.size());
  const std::string expected = ", expected first, second, each once.";
  for (const auto& [values, got] : std::vector<std::pair<FieldValues, std::string>>{
           {{}, "none"}, {{{"first", "a"}}, "first"}, {{{"first", "a"}, {"first", "b"}}, "first, first"}}) {
    expect_error(got, "OPTION_INVALID", {"the fields of the prompt judge: got " + got + expected},
                 [&, given = values] { prompt.encode(given); });
  }
  expect_error("blank", "REQUEST_INVALID", {"second: is empty"}, [&] {
    prompt.render({{"first", "a"}, {"second", " "}});
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
  test_a_request_that_is_no_utf8_is_refused(base, tokenizer);
  test_a_prompt_of_two_fields(base, tokenizer);
  test_a_template_without_its_placeholder_is_refused(base, tokenizer);
  test_a_common_prefix_ends_where_ids_differ();
  return failures != 0;
}
