// What nobody should pass to the core: NULL, wrong sizes, newer structs, bytes that are no text. It gives typed errors.
#include <cstring>
#include <string>
#include <vector>

#include "expect.h"
#include "rubricrm.hpp"

namespace {

rubricrm_code parse_with(rubricrm_parse_options options) {
  const rubricrm_rubric* rubric = nullptr;
  const rubricrm_code code = rubricrm_parse("", 0, &options, &rubric, nullptr);
  EXPECT((rubric != nullptr) == (code == RUBRICRM_OK), "the output of code %d", code);
  rubricrm_rubric_free(rubric);
  return code;
}

void null_is_typed() {
  rubricrm_error error;
  const rubricrm_rubric* rubric = reinterpret_cast<const rubricrm_rubric*>(&error);
  EXPECT(rubricrm_parse(nullptr, 3, nullptr, &rubric, &error) == RUBRICRM_REQUEST_INVALID, "a text");
  EXPECT(rubric == nullptr && std::strlen(error.message) > 0, "what is left behind");
  EXPECT(rubricrm_parse("", 0, nullptr, nullptr, &error) == RUBRICRM_OPTION_INVALID, "an output");
  EXPECT(std::string(error.message) == "rubric is NULL. Pass a pointer to one.", "%s", error.message);
  rubricrm_prompt* prompt = nullptr;
  EXPECT(rubricrm_prompt_open(nullptr, RUBRICRM_OFF, &prompt, nullptr) == RUBRICRM_OPTION_INVALID, "a path");
  const rubricrm_ids* ids = nullptr;
  EXPECT(rubricrm_encode_request(nullptr, "x", 1, &ids, nullptr) == RUBRICRM_OPTION_INVALID, "a handle");
  EXPECT(rubricrm_prompt_facts(nullptr) == nullptr && rubricrm_prompt_grammar(nullptr, nullptr) == nullptr, "a handle");
  EXPECT(rubricrm_stop_ids(nullptr, nullptr) == nullptr, "a handle");
  EXPECT(rubricrm_grammar_next(nullptr, 1, 1) == -1 && rubricrm_grammar_shortest(nullptr, 1) == -1, "a handle");
  uint32_t mask = 0;
  EXPECT(rubricrm_grammar_mask(nullptr, 1, 1, &mask, 1, nullptr) == RUBRICRM_OPTION_INVALID, "a handle");
  EXPECT(rubricrm_grammar_forced(nullptr, 1, nullptr, 1) == 0, "a handle");
  EXPECT(rubricrm_reader_push(nullptr, nullptr, 0, nullptr, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "a handle");
  EXPECT(rubricrm_reader_finish(nullptr, 0, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "a handle");
  EXPECT(rubricrm_reader_text(nullptr).size == 0 && rubricrm_reader_rubric(nullptr) == nullptr, "a handle");
  const rubricrm_text* text = reinterpret_cast<const rubricrm_text*>(&error);
  EXPECT(rubricrm_rubric_render(nullptr, &text, nullptr) == RUBRICRM_OPTION_INVALID && text == nullptr, "a rubric");
  EXPECT(rubricrm_form_regex(1, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "an output");
  EXPECT(rubricrm_form_gbnf(UINT32_MAX, &text, nullptr) == RUBRICRM_OPTION_INVALID && text == nullptr, "a number");
  double weight = 0;
  EXPECT(rubricrm_rubric_weights(nullptr, 1, 1, &weight, 1, nullptr) == RUBRICRM_OPTION_INVALID, "a rubric");
  rubricrm_ids_free(nullptr);
  rubricrm_text_free(nullptr);
}

void sizes_of_options_are_checked() {
  auto options = rubricrm::defaults<rubricrm_parse_options>();
  EXPECT(parse_with(options) == RUBRICRM_OK, "this size");
  for (const size_t size : {size_t{0}, sizeof(size_t) - 1, size_t{1} << 20, SIZE_MAX}) {
    options.struct_size = size;
    EXPECT(parse_with(options) == RUBRICRM_OPTION_INVALID, "size %zu", size);
  }
  options.struct_size = sizeof(size_t);  // of a time before there were options
  options.truncated = 77;                // is not looked at
  EXPECT(parse_with(options) == RUBRICRM_OK, "an older struct");
  options.struct_size = sizeof options;
  EXPECT(parse_with(options) == RUBRICRM_OPTION_INVALID, "a switch of 77");
  options.truncated = RUBRICRM_DEFAULT;
  options.reserved = -1;
  EXPECT(parse_with(options) == RUBRICRM_OPTION_UNKNOWN, "a reserved field");
  auto how = rubricrm::defaults<rubricrm_reader_options>();
  how.reserved = 1;
  rubricrm_reader* reader = nullptr;
  EXPECT(rubricrm_reader_new(nullptr, &how, &reader, nullptr) == RUBRICRM_OPTION_UNKNOWN && reader == nullptr,
         "a reserved field");
}

void a_newer_struct_is_taken_if_it_sets_nothing_new() {
  struct {
    rubricrm_parse_options known;
    int64_t novelty;
  } newer{};
  newer.known.struct_size = sizeof newer;
  const rubricrm_rubric* rubric = nullptr;
  EXPECT(rubricrm_parse("", 0, &newer.known, &rubric, nullptr) == RUBRICRM_OK, "nothing new is set");
  rubricrm_rubric_free(rubric);
  newer.novelty = 1;
  rubricrm_error error;
  EXPECT(rubricrm_parse("", 0, &newer.known, &rubric, &error) == RUBRICRM_OPTION_UNKNOWN, "something new is set");
  EXPECT(rubric == nullptr, "%s", error.message);
}

void any_bytes_are_read_as_a_rubric() {
  const std::string bytes("1. The response \xFF\0 is short. [Hard Rule]", 40);
  const rubricrm::Rubric rubric(bytes);
  EXPECT(rubric.criteria().size() == 1, "%zu criteria", rubric.criteria().size());
  bool is_reported = false;
  for (const rubricrm_issue& issue : rubric.issues()) is_reported |= std::string(issue.code) == "undecodable";
  EXPECT(is_reported, "a byte that is no text");
  EXPECT(rubricrm::Rubric("").issues().size() == 1, "an empty text");
}

template <typename Call>
rubricrm_code code_of(Call call) {
  try {
    call();
  } catch (const rubricrm::Failure& failure) {
    return failure.code();
  }
  return RUBRICRM_OK;
}

void a_rubric_is_written_only_in_its_form() {
  const rubricrm::Rubric sound("2) The response is short. [Hard Rule]\n- The response rhymes. [Principle]");
  EXPECT(rubricrm::render(*sound.get()) == "1. The response is short. [Hard Rule]\n2. The response rhymes. [Principle]\n",
         "%s", rubricrm::render(*sound.get()).c_str());
  EXPECT((rubricrm::weights(*sound.get(), 5) == std::vector<double>{5, 1}), "weights");
  for (const double bad : {-1.0, 1.0 / 0.0, 0.0 / 0.0}) {
    EXPECT(code_of([&] { rubricrm::weights(*sound.get(), 1, bad); }) == RUBRICRM_OPTION_INVALID, "%f", bad);
  }
  EXPECT(rubricrm_rubric_weights(sound.get(), 1, 1, nullptr, 2, nullptr) == RUBRICRM_OPTION_INVALID, "NULL");
  const rubricrm::Rubric empty(""), untagged("1. The response is short.");
  EXPECT(code_of([&] { rubricrm::render(*empty.get()); }) == RUBRICRM_RUBRIC_MALFORMED, "no criteria");
  EXPECT(code_of([&] { rubricrm::render(*untagged.get()); }) == RUBRICRM_RUBRIC_MALFORMED, "no tag");
  EXPECT(rubricrm_rubric_weights(empty.get(), 1, 1, nullptr, 0, nullptr) == RUBRICRM_OK, "no criteria");
}

void long_messages_are_cut_at_a_character() {
  std::string path;
  while (path.size() < 3 * RUBRICRM_MESSAGE_SIZE) path += "\xE4\xBA\xAC";
  for (size_t shift = 0; shift < 4; ++shift) {
    rubricrm_error error;
    std::memset(&error, 'x', sizeof error);
    rubricrm_prompt* prompt = nullptr;
    const std::string shifted = std::string(shift, 'a') + path;
    EXPECT(rubricrm_prompt_open(shifted.c_str(), RUBRICRM_OFF, &prompt, &error) != RUBRICRM_OK, "such a path");
    const size_t size = std::strlen(error.message);
    EXPECT(size < RUBRICRM_MESSAGE_SIZE, "%zu bytes", size);
    if (size > 3000) EXPECT((error.message[size - 1] & 0xC0) == 0x80, "it ends inside a character");
  }
}

void bad_requests(const rubricrm::Prompt& prompt) {
  const auto code_of = [&](std::string_view request) {
    const rubricrm_ids* ids = nullptr;
    const rubricrm_code code = rubricrm_encode_request(prompt.get(), request.data(), request.size(), &ids, nullptr);
    rubricrm_ids_free(ids);
    return code;
  };
  EXPECT(code_of("") == RUBRICRM_REQUEST_INVALID && code_of(" \n\t") == RUBRICRM_REQUEST_INVALID, "blank");
  EXPECT(code_of(std::string_view("a\0b", 3)) == RUBRICRM_REQUEST_INVALID, "NUL");
  EXPECT(code_of("\xFF\xFE") == RUBRICRM_REQUEST_INVALID, "no UTF-8");
  EXPECT(code_of("\xED\xA0\x80") == RUBRICRM_REQUEST_INVALID, "a lone surrogate");
}

void bad_fields_and_messages(const rubricrm::Prompt& prompt) {
  const auto fields = [&](const char* name, const rubricrm::Fields& given) {
    try {
      prompt.encode_fields(name, given);
    } catch (const rubricrm::Failure& failure) {
      return failure.code();
    }
    return RUBRICRM_OK;
  };
  EXPECT(fields("judge", {{"request", "x"}}) == RUBRICRM_OPTION_INVALID, "an unknown prompt");
  EXPECT(fields("rubric", {}) == RUBRICRM_OPTION_INVALID, "a field is missing");
  EXPECT(fields("rubric", {{"request", "x"}, {"more", "x"}}) == RUBRICRM_OPTION_INVALID, "an unknown field");
  EXPECT(fields("rubric", {{"request", "x"}, {"request", "x"}}) == RUBRICRM_OPTION_INVALID, "a field twice");
  EXPECT(fields("rubric", {{"request", " "}}) == RUBRICRM_REQUEST_INVALID, "a blank value");
  const rubricrm_ids* ids = nullptr;
  const rubricrm_field nameless{nullptr, "x", 1}, empty{"request", nullptr, 1};
  EXPECT(rubricrm_encode_fields(prompt.get(), nullptr, &nameless, 1, &ids, nullptr) == RUBRICRM_OPTION_INVALID, "NULL");
  EXPECT(rubricrm_encode_fields(prompt.get(), nullptr, &empty, 1, &ids, nullptr) == RUBRICRM_REQUEST_INVALID, "NULL");
  EXPECT(rubricrm_encode_fields(prompt.get(), nullptr, nullptr, 1, &ids, nullptr) == RUBRICRM_OPTION_INVALID, "NULL");
  EXPECT(rubricrm_encode_messages(prompt.get(), nullptr, 0, &ids, nullptr) == RUBRICRM_OPTION_INVALID, "no message");
  const rubricrm_message messages[] = {{"user", "x", 1}, {"wizard", "x", 1}};
  EXPECT(rubricrm_encode_messages(prompt.get(), messages, 2, &ids, nullptr) == RUBRICRM_OPTION_INVALID, "a role");
}

void bad_ids(const rubricrm::Prompt& prompt) {
  const int32_t none[] = {-1, static_cast<int32_t>(prompt.facts().num_tokens)};
  for (const int32_t id : none) {
    const rubricrm_text* text = nullptr;
    EXPECT(rubricrm_detokenize(prompt.get(), &id, 1, &text, nullptr) == RUBRICRM_OPTION_INVALID, "id %d", id);
    rubricrm::Reader reader(prompt.get());
    rubricrm_reader* handle = nullptr;
    EXPECT(rubricrm_reader_new(prompt.get(), nullptr, &handle, nullptr) == RUBRICRM_OK, "a reader");
    EXPECT(rubricrm_reader_push(handle, &id, 1, nullptr, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "id %d", id);
    EXPECT(rubricrm_reader_push(handle, nullptr, 1, nullptr, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "NULL");
    EXPECT(rubricrm_reader_finish(handle, 99, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "a reason");
    EXPECT(rubricrm_reader_finish(handle, RUBRICRM_LENGTH, nullptr, nullptr) == RUBRICRM_OK, "an end");
    EXPECT(rubricrm_reader_finish(handle, RUBRICRM_LENGTH, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "twice");
    EXPECT(rubricrm_reader_push_text(handle, "x", 1, nullptr, nullptr, nullptr) == RUBRICRM_OPTION_INVALID, "after it");
    rubricrm_reader_free(handle);
  }
}

// A reader may outlive its prompt.
void a_reader_keeps_what_it_needs(const char* bundle) {
  auto prompt = std::make_unique<rubricrm::Prompt>(bundle);
  const rubricrm::Ids ids = prompt->tokenize("1. The response rhymes. [Principle]");
  rubricrm::Reader reader(prompt->get());
  prompt.reset();
  reader.push(ids.data(), ids.size());
  reader.finish(RUBRICRM_STOP);
  EXPECT(reader.rubric()->num_criteria == 1 && reader.rubric()->num_issues == 0, "%s", reader.text().data());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  null_is_typed();
  sizes_of_options_are_checked();
  a_newer_struct_is_taken_if_it_sets_nothing_new();
  any_bytes_are_read_as_a_rubric();
  a_rubric_is_written_only_in_its_form();
  long_messages_are_cut_at_a_character();
  const rubricrm::Prompt prompt(argv[1]);
  bad_requests(prompt);
  bad_fields_and_messages(prompt);
  bad_ids(prompt);
  a_reader_keeps_what_it_needs(argv[1]);
  return failures != 0;
}
