/* Every function of models and requests (sections 7 and 8 of rubricrm.h), in C11. model_functions_test BUNDLE */
#include <rubricrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/expect_c.h"

static const char kRequest[] = "Write a haiku about rain.";
static rubricrm_error error;

/* All that was streamed. */
struct seen {
  char text[20000];
  size_t size, num_criteria, num_events, most_events;
};

static int see(const rubricrm_event* event, void* user) {
  struct seen* seen = user;
  memcpy(seen->text + seen->size, event->text.data, event->text.size);
  seen->size += event->text.size;
  seen->text[seen->size] = '\0';
  if (event->takes_back) seen->num_criteria = 0;
  seen->num_criteria += event->num_criteria;
  return ++seen->num_events == seen->most_events;
}

static void warn(const char* message, void* user) {
  (void)user;
  printf("warning: %s\n", message);
}

static void facts(const rubricrm_model* model) {
  const rubricrm_facts* found = rubricrm_model_facts(model);
  EXPECT(strcmp(found->device, "cpu") == 0 && found->threads == 1 && found->max_concurrency == 4);
  EXPECT(strlen(found->kernels) > 0);
  EXPECT(rubricrm_prompt_facts(rubricrm_model_prompt(model)) == found);
  EXPECT(rubricrm_model_facts(NULL) == NULL && rubricrm_model_prompt(NULL) == NULL);
}

static const rubricrm_result* generate(rubricrm_model* model) {
  const rubricrm_result* result = NULL;
  EXPECT(rubricrm_generate(model, kRequest, RUBRICRM_NUL_TERMINATED, NULL, &result, &error) == RUBRICRM_OK);
  EXPECT(strcmp(result->request.data, kRequest) == 0 && result->text.size > 0);
  EXPECT(result->finish_reason == RUBRICRM_STOP && result->rubric->num_criteria > 0);
  EXPECT(result->usage.prompt_tokens > result->usage.cached_prompt_tokens);
  EXPECT(result->usage.completion_tokens == result->num_token_ids && result->token_ids != NULL);
  EXPECT(result->timings_ms.first_token > 0 && result->timings_ms.total >= result->timings_ms.first_token);
  EXPECT(result->overrules != NULL && result->logprobs == NULL && result->num_logprobs == 0);
  EXPECT(strncmp(rubricrm_result_json(result), "{\"schema_version\": 1, \"request\": \"Write a haiku", 46) == 0);
  EXPECT(rubricrm_rubric_json(result->rubric) != NULL);
  rubricrm_rubric_free(result->rubric); /* is the result's own */
  return result;
}

static void stream(rubricrm_model* model, const rubricrm_result* expected) {
  static struct seen seen;
  const rubricrm_result* result = NULL;
  memset(&seen, 0, sizeof seen);
  EXPECT(rubricrm_stream(model, kRequest, sizeof kRequest - 1, NULL, see, &seen, &result, &error) == RUBRICRM_OK);
  EXPECT(strcmp(seen.text, expected->text.data) == 0 && strcmp(result->text.data, expected->text.data) == 0);
  EXPECT(seen.num_criteria == expected->rubric->num_criteria);
  rubricrm_result_free(result);

  memset(&seen, 0, sizeof seen);
  seen.most_events = 3;
  EXPECT(rubricrm_stream(model, kRequest, sizeof kRequest - 1, NULL, see, &seen, &result, &error) == RUBRICRM_OK);
  EXPECT(seen.num_events == 3 && result->finish_reason == RUBRICRM_CANCELLED);
  EXPECT(strncmp(result->text.data, seen.text, seen.size) == 0);
  rubricrm_result_free(result);
  EXPECT(rubricrm_stream(model, kRequest, sizeof kRequest - 1, NULL, NULL, NULL, NULL, &error) == RUBRICRM_OK);
}

static void sampling(rubricrm_model* model) {
  rubricrm_generation_options options = {.struct_size = sizeof options};
  const char* stops[] = {"[Principle]", "\n2. "};
  options.max_new_tokens = 40;
  options.temperature = 0.8;
  options.top_k = 50;
  options.top_p = 0.95;
  options.min_p = 0.01;
  options.has_seed = RUBRICRM_ON;
  options.seed = 7;
  options.priority = -2;
  options.timeout_s = 100;
  options.logprobs = RUBRICRM_ON;
  options.num_top_logprobs = 3;
  options.stop_on_repetition = RUBRICRM_OFF;
  options.constrain = RUBRICRM_OFF;
  options.stop = stops;
  options.num_stop = 2;
  const rubricrm_result *first = NULL, *second = NULL;
  EXPECT(rubricrm_generate(model, kRequest, RUBRICRM_NUL_TERMINATED, &options, &first, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_generate(model, kRequest, RUBRICRM_NUL_TERMINATED, &options, &second, &error) == RUBRICRM_OK);
  EXPECT(strcmp(first->text.data, second->text.data) == 0 && first->seed == 7 && first->overrules == NULL);
  EXPECT(strstr(first->text.data, "[Principle]") == NULL);
  EXPECT(first->num_logprobs == first->usage.completion_tokens && first->logprobs[0].num_top == 3);
  EXPECT(first->logprobs[0].top[0].logprob >= first->logprobs[0].top[2].logprob);
  EXPECT(first->logprobs[0].chosen.token_id == first->token_ids[0] && first->logprobs[0].chosen.logprob <= 0);
  rubricrm_result_free(first);
  rubricrm_result_free(second);
}

static void other_prompts(rubricrm_model* model, const rubricrm_result* expected) {
  const rubricrm_result* result = NULL;
  const rubricrm_field field = {"request", kRequest, RUBRICRM_NUL_TERMINATED};
  EXPECT(rubricrm_generate_fields(model, "rubric", &field, 1, NULL, &result, &error) == RUBRICRM_OK);
  EXPECT(strcmp(result->text.data, expected->text.data) == 0 && strcmp(result->request.data, kRequest) == 0);
  rubricrm_result_free(result);

  rubricrm_generation_options options = {.struct_size = sizeof options};
  options.max_new_tokens = 8;
  const rubricrm_message message = {"user", "Name a color.", RUBRICRM_NUL_TERMINATED};
  EXPECT(rubricrm_generate_messages(model, &message, 1, &options, &result, &error) == RUBRICRM_OK);
  EXPECT(result->rubric == NULL && result->request.size == 0 && result->usage.completion_tokens <= 8);
  EXPECT(strncmp(rubricrm_result_json(result), "{\"schema_version\": 1, \"text\": ", 30) == 0);
  rubricrm_result_free(result);

  rubricrm_request* handle = NULL;
  EXPECT(rubricrm_submit_messages(model, &message, 1, &options, &handle, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_request_wait(handle, &error) == RUBRICRM_OK);
  rubricrm_request_free(handle);
  EXPECT(rubricrm_submit_fields(model, NULL, &field, 1, &options, &handle, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_request_stream(handle, NULL, NULL, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_request_state(handle) == RUBRICRM_FINISHED);
  rubricrm_request_free(handle);
}

/* A host with a loop of its own: it steps, and polls. */
static void steps(rubricrm_model* model, const rubricrm_result* expected) {
  rubricrm_request* handles[6];
  static struct seen seen[6];
  memset(seen, 0, sizeof seen);
  for (int i = 0; i < 6; ++i) {
    EXPECT(rubricrm_submit(model, kRequest, RUBRICRM_NUL_TERMINATED, NULL, &handles[i], &error) == RUBRICRM_OK);
    EXPECT(rubricrm_request_state(handles[i]) == RUBRICRM_WAITING);
  }
  const rubricrm_event* event = NULL;
  EXPECT(rubricrm_request_poll(handles[0], &event, &error) == RUBRICRM_OK && event == NULL);
  rubricrm_request_cancel(handles[5]);
  int32_t has_work = 1;
  while (has_work) {
    EXPECT(rubricrm_model_step(model, &has_work, &error) == RUBRICRM_OK);
    for (int i = 0; i < 5; ++i) {
      while (rubricrm_request_poll(handles[i], &event, &error) == RUBRICRM_OK && event != NULL) see(event, &seen[i]);
    }
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT(rubricrm_request_state(handles[i]) == RUBRICRM_FINISHED);
    EXPECT(strcmp(seen[i].text, expected->text.data) == 0);
    EXPECT(seen[i].num_criteria == expected->rubric->num_criteria);
    EXPECT(rubricrm_request_next(handles[i], &event, &error) == RUBRICRM_OK && event == NULL);
  }
  const rubricrm_result* result = NULL;
  EXPECT(rubricrm_request_result(handles[5], &result, &error) == RUBRICRM_OK);
  EXPECT(result->finish_reason == RUBRICRM_CANCELLED && result->text.size == 0);
  rubricrm_result_free(result);
  for (int i = 0; i < 6; ++i) rubricrm_request_free(handles[i]);
  rubricrm_request_free(NULL);
  rubricrm_request_cancel(NULL);
  EXPECT(rubricrm_request_state(NULL) == RUBRICRM_FINISHED);
}

/* What came of many requests. */
struct outcomes {
  const rubricrm_result* results[8];
  rubricrm_code codes[8];
  size_t num, most;
};

static int take(const rubricrm_outcome* outcome, void* user) {
  struct outcomes* seen = user;
  EXPECT(outcome->index < 8 && (outcome->result == NULL) != (outcome->error == NULL));
  EXPECT(seen->results[outcome->index] == NULL && seen->codes[outcome->index] == RUBRICRM_OK); /* each once */
  seen->results[outcome->index] = outcome->result;
  if (outcome->error != NULL) seen->codes[outcome->index] = outcome->error->code;
  return ++seen->num == seen->most;
}

static void many(rubricrm_model* model, const rubricrm_result* expected) {
  const rubricrm_text requests[] = {{kRequest, RUBRICRM_NUL_TERMINATED}, {"", 0}, {kRequest, sizeof kRequest - 1},
                                    {NULL, 3}, {"\xFF", 1}, {kRequest, 0}, {kRequest, RUBRICRM_NUL_TERMINATED}};
  struct outcomes seen = {.most = 0};
  EXPECT(rubricrm_generate_many(model, requests, 7, NULL, 2, take, &seen, &error) == RUBRICRM_OK);
  EXPECT(seen.num == 7);
  for (size_t i = 0; i < 7; ++i) {
    if (i == 0 || i == 2 || i == 6) {
      EXPECT(seen.results[i] != NULL && strcmp(seen.results[i]->text.data, expected->text.data) == 0);
    } else {
      EXPECT(seen.codes[i] == RUBRICRM_REQUEST_INVALID);
    }
    rubricrm_result_free(seen.results[i]);
  }
  struct outcomes first = {.most = 1};
  EXPECT(rubricrm_generate_many(model, requests, 7, NULL, 0, take, &first, &error) == RUBRICRM_OK && first.num == 1);
  for (size_t i = 0; i < 7; ++i) rubricrm_result_free(first.results[i]);
  EXPECT(rubricrm_generate_many(model, NULL, 0, NULL, 0, take, NULL, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_generate_many(model, NULL, 1, NULL, 0, take, NULL, &error) == RUBRICRM_OPTION_INVALID);
  EXPECT(rubricrm_generate_many(model, requests, 1, NULL, 0, NULL, NULL, &error) == RUBRICRM_OPTION_INVALID);
  EXPECT(rubricrm_generate_many(NULL, requests, 1, NULL, 0, take, NULL, &error) == RUBRICRM_OPTION_INVALID);
  rubricrm_generation_options options = {.struct_size = sizeof options};
  options.top_p = 2;
  EXPECT(rubricrm_generate_many(model, requests, 1, &options, 0, take, NULL, &error) == RUBRICRM_OPTION_INVALID);
}

static void closing(rubricrm_model* model) {
  rubricrm_request* handle = NULL;
  const rubricrm_event* event = NULL;
  const rubricrm_result* result = NULL;
  EXPECT(rubricrm_submit(model, kRequest, RUBRICRM_NUL_TERMINATED, NULL, &handle, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_request_next(handle, &event, &error) == RUBRICRM_OK && event->text.size > 0);
  EXPECT(rubricrm_model_close(model, &error) == RUBRICRM_OK && rubricrm_model_close(model, &error) == RUBRICRM_OK);
  EXPECT(rubricrm_request_wait(handle, &error) == RUBRICRM_MODEL_CLOSED);
  EXPECT(rubricrm_request_result(handle, &result, &error) == RUBRICRM_MODEL_CLOSED && result == NULL);
  EXPECT(rubricrm_generate(model, kRequest, RUBRICRM_NUL_TERMINATED, NULL, &result, &error) == RUBRICRM_MODEL_CLOSED);
  EXPECT(rubricrm_model_step(model, NULL, &error) == RUBRICRM_MODEL_CLOSED);
  EXPECT(rubricrm_model_facts(model)->threads == 1);
  rubricrm_model_free(model);
  rubricrm_request_free(handle);
  rubricrm_model_free(NULL);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  rubricrm_model_options options = {.struct_size = sizeof options};
  options.device = "cpu";
  options.threads = 1;
  options.max_concurrency = 4;
  options.max_waiting = 100;
  options.keep_prompts = RUBRICRM_ON;
  options.draft = RUBRICRM_ON;
  options.on_warning = warn;
  rubricrm_model* model = NULL;
  const rubricrm_code code = rubricrm_model_open(argv[1], &options, &model, &error);
  if (code != RUBRICRM_OK) {
    printf("%s: %s\n", rubricrm_code_name(error.code), error.message);
    return code == RUBRICRM_RUNTIME_MISSING ? 77 : 1;
  }
  facts(model);
  const rubricrm_result* expected = generate(model);
  stream(model, expected);
  sampling(model);
  other_prompts(model, expected);
  steps(model, expected);
  many(model, expected);
  closing(model);
  EXPECT(strlen(rubricrm_result_json(expected)) > expected->text.size); /* it outlives the model */
  rubricrm_result_free(expected);
  return failures != 0;
}
