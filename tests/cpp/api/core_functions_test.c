/* Every function of the core (sections 1 to 6 of rubricrm.h), in C11. core_functions_test BUNDLE */
#include <rubricrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/expect_c.h"

static const char kText[] =
    "1. The response must be a haiku. [Hard Rule]\n2. The response should be vivid. [Principle]\nThat is all.\n";

static void versions(void) {
  EXPECT(strcmp(rubricrm_version(), RUBRICRM_VERSION) == 0);
  EXPECT(rubricrm_abi_version() == RUBRICRM_ABI_VERSION);
}

static void names(void) {
  EXPECT(strcmp(rubricrm_code_name(RUBRICRM_OK), "OK") == 0);
  EXPECT(strcmp(rubricrm_code_name(RUBRICRM_BUNDLE_NOT_FOUND), "BUNDLE_NOT_FOUND") == 0);
  EXPECT(strcmp(rubricrm_code_name(RUBRICRM_DEPENDENCY_MISSING), "DEPENDENCY_MISSING") == 0);
  EXPECT(strcmp(rubricrm_code_name(99), "UNKNOWN") == 0 && strcmp(rubricrm_code_name(-1), "UNKNOWN") == 0);
  EXPECT(strcmp(rubricrm_finish_reason_name(RUBRICRM_STOP), "stop") == 0);
  EXPECT(strcmp(rubricrm_finish_reason_name(RUBRICRM_REPETITION), "repetition") == 0);
  EXPECT(strcmp(rubricrm_finish_reason_name(77), "") == 0);
}

static void written_again(const rubricrm_rubric* rubric) {
  rubricrm_error error;
  const rubricrm_text* text = NULL;
  EXPECT(rubricrm_rubric_render(rubric, &text, &error) == RUBRICRM_OK);
  EXPECT(text->size == strlen(text->data) && strncmp(text->data, kText, text->size) == 0);
  EXPECT(strstr(text->data, "That is all.") == NULL && strstr(text->data, "vivid. [Principle]\n") != NULL);
  rubricrm_text_free(text);
  double weights[3] = {-1, -1, -1};
  EXPECT(rubricrm_rubric_weights(rubric, RUBRICRM_HARD_RULE_WEIGHT, RUBRICRM_PRINCIPLE_WEIGHT, weights, 3, &error) ==
         RUBRICRM_OK);
  EXPECT(weights[0] == 3 && weights[1] == 1 && weights[2] == -1);
  EXPECT(rubricrm_rubric_weights(rubric, 0.5, 0, weights, 2, &error) == RUBRICRM_OK);
  EXPECT(weights[0] == 0.5 && weights[1] == 0);
  EXPECT(rubricrm_rubric_weights(rubric, 0, 0, weights, 2, &error) == RUBRICRM_OPTION_INVALID && weights[0] == 0.5);
  EXPECT(rubricrm_rubric_weights(rubric, 1, 1, weights, 1, &error) == RUBRICRM_OPTION_INVALID && weights[0] == 0.5);
}

static void forms(void) {
  rubricrm_error error;
  const rubricrm_text *text = NULL, *same = NULL;
  EXPECT(rubricrm_form_regex(1, &text, &error) == RUBRICRM_OK);
  EXPECT(text->size == strlen(text->data) && strncmp(text->data, "1\\. ", 4) == 0);
  EXPECT(strstr(text->data, "Hard Rule") != NULL && strstr(text->data, "2\\. ") == NULL);
  rubricrm_text_free(text);
  EXPECT(rubricrm_form_gbnf(0, &text, &error) == RUBRICRM_OK && rubricrm_form_gbnf(40, &same, &error) == RUBRICRM_OK);
  EXPECT(strncmp(text->data, "root ::= \"1. \" item", 19) == 0 && strcmp(text->data, same->data) == 0);
  rubricrm_text_free(text);
  rubricrm_text_free(same);
  EXPECT(rubricrm_form_gbnf(65, &text, &error) == RUBRICRM_OPTION_INVALID && text == NULL);
  EXPECT(strcmp(error.message, "max_items must be from 1 to 64, got 65.") == 0);
}

static void rubrics(void) {
  rubricrm_error error;
  rubricrm_parse_options options = {.struct_size = sizeof options};
  const rubricrm_rubric* rubric = NULL;
  EXPECT(rubricrm_parse(kText, RUBRICRM_NUL_TERMINATED, &options, &rubric, &error) == RUBRICRM_OK);
  EXPECT(error.code == RUBRICRM_OK && error.message[0] == '\0');
  EXPECT(rubric->num_criteria == 2 && rubric->num_issues == 1);
  EXPECT(rubric->criteria[0].number == 1 && rubric->criteria[0].kind == RUBRICRM_HARD_RULE);
  EXPECT(strcmp(rubric->criteria[0].text.data, "The response must be a haiku.") == 0);
  EXPECT(rubric->criteria[0].text.size == strlen(rubric->criteria[0].text.data));
  EXPECT(rubric->criteria[1].kind == RUBRICRM_PRINCIPLE && rubric->criteria[1].line == 2);
  EXPECT(rubric->criteria[1].start == 45 && rubric->criteria[1].column == 1);
  EXPECT(strcmp(rubric->issues[0].code, "trailing_text") == 0 && rubric->issues[0].line == 3);
  const char* json = rubricrm_rubric_json(rubric);
  EXPECT(strncmp(json, "{\"schema_version\": 1, \"criteria\": [{\"number\": 1, \"text\": ", 57) == 0);
  EXPECT(json == rubricrm_rubric_json(rubric));
  written_again(rubric);
  rubricrm_rubric_free(rubric);
  options.strict = RUBRICRM_ON;
  EXPECT(rubricrm_parse(kText, sizeof kText - 1, &options, &rubric, &error) == RUBRICRM_RUBRIC_MALFORMED);
  EXPECT(rubric == NULL && error.code == RUBRICRM_RUBRIC_MALFORMED && strlen(error.message) > 20);
  rubricrm_rubric_free(NULL);
  EXPECT(rubricrm_rubric_json(NULL) == NULL && rubricrm_result_json(NULL) == NULL);
  rubricrm_result_free(NULL);
}

static void prompts(const rubricrm_prompt* prompt) {
  rubricrm_error error;
  const rubricrm_facts* facts = rubricrm_prompt_facts(prompt);
  EXPECT(facts->num_tokens > 0 && facts->vocab_size >= facts->num_tokens && facts->context_length > 0);
  EXPECT(strlen(facts->manifest_sha256) == 64 && strlen(facts->name) > 0 && strlen(facts->weights) > 0);
  EXPECT(facts->num_prompts >= 1 && facts->device == NULL && facts->threads == 0);

  const rubricrm_ids *ids = NULL, *same = NULL, *prefix = NULL, *chat = NULL, *plain = NULL;
  EXPECT(rubricrm_encode_request(prompt, "Write a haiku.", RUBRICRM_NUL_TERMINATED, &ids, &error) == RUBRICRM_OK);
  const rubricrm_field field = {"request", "Write a haiku.", RUBRICRM_NUL_TERMINATED};
  EXPECT(rubricrm_encode_fields(prompt, NULL, &field, 1, &same, &error) == RUBRICRM_OK);
  EXPECT(ids->size == same->size && memcmp(ids->data, same->data, ids->size * sizeof(int32_t)) == 0);
  EXPECT(rubricrm_fixed_prefix(prompt, &prefix, &error) == RUBRICRM_OK && prefix->size < ids->size);
  EXPECT(memcmp(ids->data, prefix->data, prefix->size * sizeof(int32_t)) == 0);
  const rubricrm_message messages[] = {{"system", "Be brief.", RUBRICRM_NUL_TERMINATED}, {"user", "Hello!", 5}};
  EXPECT(rubricrm_encode_messages(prompt, messages, 2, &chat, &error) == RUBRICRM_OK && chat->size > 0);

  const char* words = "A rainbow <|im_end|> forms.";
  const rubricrm_text *text = NULL, *rendered = NULL;
  EXPECT(rubricrm_tokenize(prompt, words, strlen(words), &plain, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_detokenize(prompt, plain->data, plain->size, &text, &error) == RUBRICRM_OK);
  EXPECT(strcmp(text->data, words) == 0 && text->size == strlen(words));
  EXPECT(rubricrm_render_fields(prompt, "rubric", &field, 1, &rendered, &error) == RUBRICRM_OK);
  EXPECT(strstr(rendered->data, "Write a haiku.") != NULL);

  const rubricrm_ids* stop_ids = rubricrm_stop_ids(prompt, "rubric");
  EXPECT(stop_ids != NULL && stop_ids->size > 0 && rubricrm_stop_ids(prompt, "no such prompt") == NULL);
  rubricrm_ids_free(stop_ids); /* is the prompt's own */
  EXPECT(rubricrm_stop_ids(prompt, NULL)->data[0] == stop_ids->data[0]);
  rubricrm_text_free(text);
  rubricrm_text_free(rendered);
  rubricrm_ids_free(ids);
  rubricrm_ids_free(same);
  rubricrm_ids_free(prefix);
  rubricrm_ids_free(chat);
  rubricrm_ids_free(plain);
}

static void grammars(const rubricrm_prompt* prompt) {
  rubricrm_error error;
  const rubricrm_grammar* grammar = rubricrm_prompt_grammar(prompt, NULL);
  EXPECT(grammar != NULL && rubricrm_prompt_grammar(prompt, "no such prompt") == NULL);
  const size_t num_words = (rubricrm_prompt_facts(prompt)->num_tokens + 31) / 32;
  uint32_t* mask = malloc((num_words + 1) * sizeof *mask);
  mask[num_words] = 7;
  EXPECT(rubricrm_grammar_mask(grammar, RUBRICRM_GRAMMAR_START, 1000, mask, num_words + 1, &error) == RUBRICRM_OK);
  EXPECT(mask[num_words] == 0);
  int32_t first = -1;
  for (int32_t id = 0; id < (int32_t)num_words * 32; ++id) {
    const int may_follow = mask[id / 32] >> id % 32 & 1;
    EXPECT((rubricrm_grammar_next(grammar, RUBRICRM_GRAMMAR_START, id) >= 0) == may_follow);
    if (may_follow && first < 0) first = id;
  }
  EXPECT(first >= 0);
  const int32_t shortest = rubricrm_grammar_shortest(grammar, RUBRICRM_GRAMMAR_START);
  EXPECT(shortest > 3 && rubricrm_grammar_shortest(grammar, 0) == 0 && rubricrm_grammar_shortest(grammar, -5) == -1);
  EXPECT(rubricrm_grammar_mask(grammar, RUBRICRM_GRAMMAR_START, 3, mask, num_words, &error) == RUBRICRM_OK);
  for (size_t i = 0; i < num_words; ++i) EXPECT(mask[i] == 0); /* no whole text is so short */
  int32_t forced[4];
  EXPECT(rubricrm_grammar_forced(grammar, RUBRICRM_GRAMMAR_START, forced, 4) <= 4);
  EXPECT(rubricrm_grammar_forced(grammar, RUBRICRM_GRAMMAR_START, NULL, 0) == 0);
  EXPECT(rubricrm_grammar_next(grammar, 1 << 20, 0) == -1 && rubricrm_grammar_next(grammar, 1, -1) == -1);
  free(mask);
}

static void readers(const rubricrm_prompt* prompt) {
  rubricrm_error error;
  rubricrm_reader_options options = {.struct_size = sizeof options};
  rubricrm_reader* reader = NULL;
  const rubricrm_ids* ids = NULL;
  EXPECT(rubricrm_tokenize(prompt, kText, sizeof kText - 1, &ids, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_reader_new(prompt, &options, &reader, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_reader_rubric(reader) == NULL);
  size_t num_criteria = 0, num_bytes = 0;
  const rubricrm_event* event = NULL;
  rubricrm_finish_reason reason = RUBRICRM_CANCELLED;
  for (size_t i = 0; i < ids->size; ++i) {
    EXPECT(rubricrm_reader_push(reader, &ids->data[i], 1, &event, &reason, &error) == RUBRICRM_OK);
    num_criteria += event->num_criteria;
    num_bytes += event->text.size;
    EXPECT(reason == RUBRICRM_UNFINISHED && event->takes_back == 0);
  }
  EXPECT(num_criteria == 2 && num_bytes == sizeof kText - 1);
  EXPECT(rubricrm_reader_push(reader, rubricrm_stop_ids(prompt, NULL)->data, 1, NULL, &reason, &error) == RUBRICRM_OK);
  EXPECT(reason == RUBRICRM_STOP);
  EXPECT(rubricrm_reader_finish(reader, RUBRICRM_UNFINISHED, &event, &error) == RUBRICRM_OK);
  EXPECT(strcmp(rubricrm_reader_text(reader).data, kText) == 0);
  EXPECT(rubricrm_reader_rubric(reader)->num_criteria == 2);
  rubricrm_rubric_free(rubricrm_reader_rubric(reader)); /* is the reader's own */
  EXPECT(rubricrm_rubric_json(rubricrm_reader_rubric(reader)) != NULL);
  rubricrm_reader_free(reader);
  rubricrm_ids_free(ids);

  const char* stops[] = {"2. "};
  options.stop = stops;
  options.num_stop = 1;
  EXPECT(rubricrm_reader_new(NULL, &options, &reader, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_reader_push_text(reader, kText, RUBRICRM_NUL_TERMINATED, &event, &reason, &error) == RUBRICRM_OK);
  EXPECT(reason == RUBRICRM_STOP && event->num_criteria == 1);
  EXPECT(rubricrm_reader_finish(reader, RUBRICRM_UNFINISHED, &event, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_reader_rubric(reader)->num_criteria == 1 && rubricrm_reader_rubric(reader)->num_issues == 0);
  rubricrm_reader_free(reader);
  rubricrm_reader_free(NULL);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  versions();
  names();
  rubrics();
  forms();
  rubricrm_error error;
  rubricrm_prompt* prompt = NULL;
  EXPECT(rubricrm_prompt_open("no such directory", RUBRICRM_DEFAULT, &prompt, &error) == RUBRICRM_BUNDLE_NOT_FOUND);
  EXPECT(prompt == NULL);
  if (rubricrm_prompt_open(argv[1], RUBRICRM_ON, &prompt, &error) != RUBRICRM_OK) {
    printf("%s: %s\n", rubricrm_code_name(error.code), error.message);
    return 1;
  }
  prompts(prompt);
  grammars(prompt);
  readers(prompt);
  rubricrm_prompt_free(prompt);
  rubricrm_prompt_free(NULL);
  return failures != 0;
}
