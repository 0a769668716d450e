/* The rubric of a request, in C. blocking BUNDLE REQUEST */
#include <stdio.h>
#include <string.h>

#include <rubricrm.h>

static int fail(const rubricrm_error* error) {
  fprintf(stderr, "%s: %s\n", rubricrm_code_name(error->code), error->message);
  return 1;
}

static void print(const rubricrm_result* result) {
  for (size_t i = 0; i < result->rubric->num_criteria; ++i) {
    const rubricrm_criterion* criterion = &result->rubric->criteria[i];
    printf("%-9s %s\n", criterion->kind == RUBRICRM_HARD_RULE ? "must" : "should", criterion->text.data);
  }
  for (size_t i = 0; i < result->rubric->num_issues; ++i) {
    const rubricrm_issue* issue = &result->rubric->issues[i];
    fprintf(stderr, "line %u: %s: %s\n", (unsigned)issue->line, issue->code, issue->message.data);
  }
  fprintf(stderr, "%s after %.0f ms\n", rubricrm_finish_reason_name(result->finish_reason), result->timings_ms.total);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s BUNDLE REQUEST\n", argv[0]);
    return 2;
  }
  rubricrm_error error;
  rubricrm_model_options how = {.struct_size = sizeof how};
  how.max_concurrency = 1; /* one request at a time: it takes less memory */
  rubricrm_model* model = NULL;
  if (rubricrm_model_open(argv[1], &how, &model, &error) != RUBRICRM_OK) return fail(&error);

  rubricrm_generation_options options = {.struct_size = sizeof options};
  options.timeout_s = 60;
  const rubricrm_result* result = NULL;
  const rubricrm_code code = rubricrm_generate(model, argv[2], strlen(argv[2]), &options, &result, &error);
  if (code == RUBRICRM_OK) print(result);

  rubricrm_result_free(result);
  rubricrm_model_free(model);
  return code == RUBRICRM_OK ? 0 : fail(&error);
}
