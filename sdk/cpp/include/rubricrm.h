/*
 * rubricrm.h: the C interface of librubricrm, which turns a request into a typed evaluation rubric.
 *
 * A bundle (docs/BUNDLE.md) is a directory that holds one exported model. The library reads the same bundles as the
 * Python package `rubricrm`, writes the same tokens and returns the same results. docs/NATIVE.md tells how to build and
 * link.
 *
 * A first program:
 *
 *     rubricrm_error error;
 *     rubricrm_model* model = NULL;
 *     if (rubricrm_model_open("bundle", NULL, &model, &error) != RUBRICRM_OK) {
 *       fprintf(stderr, "%s: %s\n", rubricrm_code_name(error.code), error.message);
 *       return 1;
 *     }
 *     const rubricrm_result* result = NULL;
 *     const char* request = "Write a haiku about rain.";
 *     if (rubricrm_generate(model, request, RUBRICRM_NUL_TERMINATED, NULL, &result, &error) == RUBRICRM_OK) {
 *       for (size_t i = 0; i < result->rubric->num_criteria; ++i) puts(result->rubric->criteria[i].text.data);
 *       rubricrm_result_free(result);
 *     }
 *     rubricrm_model_free(model);
 *
 * CONTENTS
 *
 *   1. Versions            which library this is
 *   2. Errors              codes and messages
 *   3. Texts               how strings come in and go out
 *   4. Rubrics             a text -> criteria and issues, and back; the form for other engines; needs no bundle
 *   5. Results and events  what a generation gives
 *   6. Prompts             a bundle without its model: requests -> ids, ids -> text and criteria, what a grammar allows
 *   7. Models              open, generate, stream
 *   8. Requests            several generations at once: submit, step, poll; many through one model
 *
 * Sections 1 to 6 are the core. A library that was built with RUBRICRM_RUNTIME=OFF has no others: it needs no ONNX
 * Runtime, and serves programs that run the model on an engine of their own. Linking a function of sections 7 and 8
 * with it fails.
 *
 * RULES THAT HOLD EVERYWHERE
 *
 * Errors.     A function that can fail returns a code, RUBRICRM_OK if it did not, and writes code and message into the
 *             rubricrm_error that its last argument points to. That argument may be NULL. There is no "last error" that
 *             other threads could overwrite. No exception and no signal leaves the library.
 * Output.     If a function fails, what its output arguments point to is set to NULL or 0. An output argument itself
 *             must not be NULL unless its function says so: that is RUBRICRM_OPTION_INVALID.
 * NULL.       A handle that is NULL is RUBRICRM_OPTION_INVALID, a text that is NULL is RUBRICRM_REQUEST_INVALID. Every
 *             ..._free(NULL) does nothing. Other pointers that may be NULL say so.
 * Owners.     Who receives an object from a function that its name says makes it (open, new, submit, generate, parse,
 *             encode, render, result) frees it with the ..._free of its type. Everything that is reached through a
 *             pointer to const inside another object belongs to that object and lives as long as it, unless its
 *             comment says otherwise.
 * Threads.    Any function may be called from any thread. Objects that are const in this header may be read by any
 *             number of threads at a time. A function that frees an object must be the last to use it: no other thread
 *             may be inside a call with it, unless the function says otherwise. The library starts no thread to compute
 *             or to call back: the model is computed by the threads that wait for results (section 8). ONNX Runtime has
 *             threads of its own, as many as rubricrm_model_options.threads says.
 * Options.    Each struct of options begins with `struct_size`, which its caller sets to sizeof of it. Every other
 *             field that is zero has its default, so `rubricrm_model_options options = {.struct_size = sizeof
 *             options};` is all defaults, as is a NULL pointer to options. A library that is newer than the caller
 *             takes a smaller struct: fields that it does not have are defaults. A library that is older takes a larger
 *             struct if everything beyond what it knows is zero, else it fails with RUBRICRM_OPTION_UNKNOWN. So does a
 *             field named `reserved` that is not zero. A size below that of `struct_size` itself, or above 65536, is
 *             RUBRICRM_OPTION_INVALID.
 * Growth.     Structs that only the library makes and that are handed out by pointer (results, events, facts) may grow
 *             at their ends in later versions. Elements of arrays, structs inside structs, and the order of functions'
 *             arguments change only with RUBRICRM_ABI_VERSION, which is the number in the name librubricrm.so.1.
 * Fork.       A model, and its requests, belong to the process that opened it. In a fork every call with them gives
 *             RUBRICRM_MODEL_CLOSED at once, without waiting for a lock, and ..._free releases what is safe to release
 *             there. Rubrics, results and prompts are plain data and work in a fork.
 * Signals.    From a signal's handler these may be called, which return static texts and numbers: rubricrm_version,
 *             rubricrm_abi_version, rubricrm_code_name, rubricrm_finish_reason_name. No other function may: not even
 *             rubricrm_request_cancel, which takes locks that the interrupted thread may hold. A handler sets a flag of
 *             the program's own (volatile sig_atomic_t, or a lock-free atomic), and the program looks at it between
 *             steps: rubricrm_model_step returns after each, also while a long prompt is computed, and there the
 *             request can be cancelled. The callback of rubricrm_stream is no such place: it is called where there is
 *             text. sdk/cpp/examples/streaming.cpp does so.
 */
#ifndef RUBRICRM_H
#define RUBRICRM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define RUBRICRM_API
#elif defined(__GNUC__)
#define RUBRICRM_API __attribute__((visibility("default")))
#else
#define RUBRICRM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------------- 1. Versions */

/* The version of this header. It is that of the Python package. */
#define RUBRICRM_VERSION "0.1.0"

/* Changes when a program that was compiled with an earlier header would go wrong. */
#define RUBRICRM_ABI_VERSION 1

/*
 * Returns the version of the library that is linked, such as "0.1.0". The text is static.
 */
RUBRICRM_API const char* rubricrm_version(void);

/*
 * Returns the RUBRICRM_ABI_VERSION that the library was built with. A program that loads the library at run time
 * compares it with the header's before it calls anything else.
 */
RUBRICRM_API uint32_t rubricrm_abi_version(void);

/* ------------------------------------------------------------------------------------------------------ 2. Errors */

/*
 * What failed. The names are those of the Python package (rubricrm/errors.py), and are stable; messages are not. Bad
 * input is what the caller can mend. Codes that this library itself never returns are there so that both have one
 * vocabulary.
 */
typedef enum rubricrm_code {
  RUBRICRM_OK = 0,
  RUBRICRM_BUNDLE_NOT_FOUND = 1,           /* no directory, or no manifest in it */
  RUBRICRM_BUNDLE_INVALID = 2,             /* a file of the bundle is missing, damaged or contradicts another */
  RUBRICRM_BUNDLE_VERSION_UNSUPPORTED = 3, /* the bundle's format is newer or older than the library reads */
  RUBRICRM_GRAPH_UNUSABLE = 4,             /* the bundle has no graph that the library can run here */
  RUBRICRM_REQUEST_INVALID = 5,            /* a text is NULL, blank, or no UTF-8, or holds NUL */
  RUBRICRM_PROMPT_TOO_LONG = 6,            /* the prompt leaves no room for a new token */
  RUBRICRM_OPTION_INVALID = 7,             /* an argument is NULL or out of range, or contradicts another */
  RUBRICRM_OPTION_UNKNOWN = 8,             /* a newer struct of options sets what this library does not know */
  RUBRICRM_STREAM_BUSY = 9,                /* the request is being read by another call */
  RUBRICRM_ENGINE_BUSY = 10,               /* as many requests wait as may */
  RUBRICRM_RESULT_INVALID = 11,            /* a stored result cannot be read (Python) */
  RUBRICRM_RUBRIC_MALFORMED = 12,          /* a text is not in the form of a rubric, and was asked to be */
  RUBRICRM_ANSWERS_INVALID = 13,           /* a file of answers cannot be read (Python) */
  RUBRICRM_RUNTIME_MISSING = 14,           /* ONNX Runtime was not found, or not what the device needs */
  RUBRICRM_RUNTIME_FAILED = 15,            /* ONNX Runtime refused or memory ran out; the message says which */
  RUBRICRM_OUTPUT_INVALID = 16,            /* the model computed NaN or infinity */
  RUBRICRM_MODEL_CLOSED = 17,              /* the model was closed, or belongs to another process */
  RUBRICRM_OUTPUT_EXISTS = 18,             /* what would be written exists (Python) */
  RUBRICRM_WRITE_FAILED = 19,              /* a file could not be written */
  RUBRICRM_GRAMMAR_UNUSABLE = 20,          /* an expression cannot be compiled (Python) */
  RUBRICRM_DEPENDENCY_MISSING = 21         /* an optional dependency is needed (Python) */
} rubricrm_code;

/* Bytes of a message, its final NUL among them. A longer message is cut at a character. */
#define RUBRICRM_MESSAGE_SIZE 2040

/*
 * An error, in the caller's memory: nothing is allocated, and nothing is to be freed. It needs no initialization. After
 * a call that succeeded it holds RUBRICRM_OK and an empty message. Its size never changes.
 *
 * A message is one sentence or several: what failed, where, what was found, what was expected, what to do. It does not
 * begin with the code.
 */
typedef struct rubricrm_error {
  rubricrm_code code;
  char message[RUBRICRM_MESSAGE_SIZE]; /* UTF-8 */
} rubricrm_error;

/*
 * Returns the stable name of a code without its prefix, such as "BUNDLE_INVALID", and "UNKNOWN" for a number that is
 * none. The text is static.
 */
RUBRICRM_API const char* rubricrm_code_name(int32_t code);

/* ------------------------------------------------------------------------------------------------------- 3. Texts */

/* In the place of a text's size: the text ends at its first NUL. */
#define RUBRICRM_NUL_TERMINATED ((size_t)-1)

/*
 * A text that the library gives: UTF-8, `size` bytes, and a NUL after them. It may hold other NULs if the model wrote
 * one. `data` is never NULL.
 */
typedef struct rubricrm_text {
  const char* data;
  size_t size;
} rubricrm_text;

/* Yes, no, or whatever the default is. */
typedef int32_t rubricrm_switch;
#define RUBRICRM_DEFAULT 0
#define RUBRICRM_ON 1
#define RUBRICRM_OFF 2

/* ----------------------------------------------------------------------------------------------------- 4. Rubrics */

/* What a criterion is. */
typedef enum rubricrm_kind {
  RUBRICRM_NO_KIND = 0,  /* the text did not say */
  RUBRICRM_HARD_RULE = 1, /* the request states it */
  RUBRICRM_PRINCIPLE = 2  /* good practice, derived from the request */
} rubricrm_kind;

/* One item of a rubric. Offsets count code points of the text, not bytes, as in Python. */
typedef struct rubricrm_criterion {
  int64_t number;     /* as written in the text; -1: none was */
  rubricrm_text text; /* without number and tag; wrapped lines are joined by one space */
  rubricrm_kind kind;
  uint32_t line;      /* line of its start, from 1 */
  uint32_t column;    /* column of its start in code points, from 1 */
  uint64_t start;     /* offset of its first code point */
  uint64_t end;       /* offset after its last one */
} rubricrm_criterion;

/*
 * One deviation from the usual form. A malformed text is no error: what is in it is returned, and what is wrong is
 * listed.
 */
typedef struct rubricrm_issue {
  const char* code;      /* "missing_tag", "truncated", ...: ISSUE_CODES of rubricrm/rubric/criterion.py */
  uint32_t line;         /* from 1 */
  rubricrm_text message; /* for a person */
} rubricrm_issue;

/* What was found in a text. */
typedef struct rubricrm_rubric {
  const rubricrm_criterion* criteria; /* in the order of the text */
  size_t num_criteria;
  const rubricrm_issue* issues; /* by line, then by code */
  size_t num_issues;
} rubricrm_rubric;

/* How to read a text. */
typedef struct rubricrm_parse_options {
  size_t struct_size;
  /* ON: the generator was cut, so an untagged last item is unfinished. Default OFF */
  rubricrm_switch truncated;
  rubricrm_switch starts_in_thought; /* ON: the prompt ended with the opening tag of a thought. Default OFF */
  rubricrm_switch strict;            /* ON: take only a text that is in the form throughout. Default OFF */
  int32_t reserved;                  /* 0 */
} rubricrm_parse_options;

/*
 * Reads the rubric in a text. Bytes that are no UTF-8 are read as U+FFFD and reported as the issue "undecodable".
 *
 *   text, size  The text; it may be empty, and may hold NUL if its size is given.
 *   options     May be NULL.
 *   rubric      Receives the rubric, to be freed with rubricrm_rubric_free. It holds copies: the text may go.
 *
 * Fails with RUBRIC_MALFORMED if `strict` is ON and the text is not in the form, REQUEST_INVALID if `text` is NULL,
 * OPTION_INVALID. The cost is linear in the size.
 */
RUBRICRM_API rubricrm_code rubricrm_parse(const char* text, size_t size, const rubricrm_parse_options* options,
                                          const rubricrm_rubric** rubric, rubricrm_error* error);

/*
 * Returns the JSON text that Python's Rubric.to_json() gives. It belongs to the rubric. Any rubric will do: also one
 * inside a result. Returns NULL for NULL, and if memory runs out.
 */
RUBRICRM_API const char* rubricrm_rubric_json(const rubricrm_rubric* rubric);

/*
 * Writes a rubric as its canonical text: a line `N. The response ... [Hard Rule]` per criterion, numbered from 1, each
 * with a line break. Parsing it gives the same texts and kinds, and no issue but "repetition" where criteria are equal.
 *
 *   rubric  Any rubric: also one inside a result or a reader.
 *   text    Receives the text, to be freed with rubricrm_text_free.
 *
 * Fails with RUBRIC_MALFORMED where there is no criterion, or one has no canonical form; the message says which and
 * why. The cost is one parse of the text.
 */
RUBRICRM_API rubricrm_code rubricrm_rubric_render(const rubricrm_rubric* rubric, const rubricrm_text** text,
                                                  rubricrm_error* error);

/* What criteria weigh in RUBRIC-ARROW, whose reward is sum(weight * score) / sum(weight). */
#define RUBRICRM_HARD_RULE_WEIGHT 3.0
#define RUBRICRM_PRINCIPLE_WEIGHT 1.0

/*
 * Writes the weight of each criterion, in order. A criterion without kind weighs as a principle: a lost tag must not
 * make an item decide alone.
 *
 *   hard_rule, principle  What a criterion of each kind weighs: finite, at least 0, not both 0.
 *   weights, num_weights  Room for a number per criterion: rubric->num_criteria, or more, which stay as they are.
 *
 * Fails with OPTION_INVALID, and then writes nothing.
 */
RUBRICRM_API rubricrm_code rubricrm_rubric_weights(const rubricrm_rubric* rubric, double hard_rule, double principle,
                                                   double* weights, size_t num_weights, rubricrm_error* error);

/*
 * Writes the form of a rubric for another engine's structured output, which holds an answer to it:
 *
 *   rubricrm_form_regex  a regular expression without anchors, which Python's `re`, Rust's `regex` and what is built on
 *                        them read alike: `structured_outputs` of vLLM, `regex` of SGLang. About 1,200 characters per
 *                        item.
 *   rubricrm_form_gbnf   a grammar of llama.cpp: `grammar` of its server.
 *
 *   max_items  Most items of a rubric, 1 to 64. 0: 40, more than any published rubric has.
 *   text       Receives the text, to be freed with rubricrm_text_free.
 *
 * A program that chooses tokens itself takes the bundle's grammar instead (section 6): it needs no compilation. Fails
 * with OPTION_INVALID.
 */
RUBRICRM_API rubricrm_code rubricrm_form_regex(uint32_t max_items, const rubricrm_text** text, rubricrm_error* error);
RUBRICRM_API rubricrm_code rubricrm_form_gbnf(uint32_t max_items, const rubricrm_text** text, rubricrm_error* error);

/* Frees a text that a function made: rubricrm_rubric_render, _form_regex, _form_gbnf, _render_fields, _detokenize. */
RUBRICRM_API void rubricrm_text_free(const rubricrm_text* text);

/*
 * Frees a rubric that rubricrm_parse gave. A rubric inside a result or a reader is freed with that, and this function
 * ignores it.
 */
RUBRICRM_API void rubricrm_rubric_free(const rubricrm_rubric* rubric);

/* ------------------------------------------------------------------------------------------ 5. Results and events */

/* Why a generation ended. After all but STOP, the text is cut. */
typedef enum rubricrm_finish_reason {
  RUBRICRM_UNFINISHED = 0,
  RUBRICRM_STOP = 1,      /* the model ended it, or a stop string did */
  RUBRICRM_LENGTH = 2,    /* it has max_new_tokens, or the model's context is full */
  RUBRICRM_CANCELLED = 3, /* it was cancelled, or its result was taken before its end */
  RUBRICRM_TIMEOUT = 4,   /* timeout_s is over */
  RUBRICRM_REPETITION = 5 /* the text goes in circles */
} rubricrm_finish_reason;

/*
 * Returns the reason as results in JSON write it: "stop", "length", "cancelled", "timeout", "repetition"; "" for
 * others. Static.
 */
RUBRICRM_API const char* rubricrm_finish_reason_name(int32_t reason);

/* Tokens of one generation. The token that ends it is not counted. */
typedef struct rubricrm_usage {
  uint64_t prompt_tokens;
  uint64_t cached_prompt_tokens; /* of these, restored and not computed */
  uint64_t completion_tokens;
  uint64_t drafted_tokens;  /* drafted and verified */
  uint64_t accepted_tokens; /* of these, came true */
} rubricrm_usage;

/* Milliseconds on one clock. How fast a stream is read makes no difference. */
typedef struct rubricrm_timings {
  double tokenize;    /* text to prompt ids */
  double prefill;     /* from the slot to the computed prompt; 0 if it ended before */
  double first_token; /* from the call to the first token, waiting included; negative if there is none */
  double decode;      /* from the first token to the end */
  double total;       /* from the call to the end */
} rubricrm_timings;

/*
 * How often the form of a rubric took the model's choice away. Many: the model, or its quantization, has lost the form.
 */
typedef struct rubricrm_overrules {
  uint64_t count;     /* tokens */
  double probability; /* the sum of what the model gave to all that was refused, over these tokens */
} rubricrm_overrules;

/* A token and the natural logarithm of its probability, before temperature and filters. */
typedef struct rubricrm_logprob {
  int32_t token_id;
  double logprob;
} rubricrm_logprob;

/* The log-probabilities at one place of the text. */
typedef struct rubricrm_token_logprobs {
  rubricrm_logprob chosen;
  const rubricrm_logprob* top; /* the most probable ones, the best first */
  size_t num_top;
} rubricrm_token_logprobs;

/* A finished generation. It depends on nothing else: the request and the model may be freed before it. */
typedef struct rubricrm_result {
  rubricrm_text request; /* what was asked; empty if it was not for a rubric */
  rubricrm_text text;    /* what the model wrote, without the end token and stop string */
  const rubricrm_rubric* rubric; /* criteria and issues of the text; NULL if it was not for a rubric */
  rubricrm_finish_reason finish_reason;
  uint64_t seed; /* that was used: with it the same call gives the same text */
  rubricrm_usage usage;
  rubricrm_timings timings_ms;
  const rubricrm_overrules* overrules;     /* NULL: nothing held the text to a form */
  const rubricrm_token_logprobs* logprobs; /* one per token of the completion; NULL if they were not asked for */
  size_t num_logprobs;
  const int32_t* token_ids; /* of the completion */
  size_t num_token_ids;
} rubricrm_result;

/*
 * Returns the JSON text that Python's RubricResult.to_json() gives, or TextResult.to_json() if there is no rubric. It
 * belongs to the result, and is made at the first call. Returns NULL for NULL, and if memory runs out.
 */
RUBRICRM_API const char* rubricrm_result_json(const rubricrm_result* result);

/* Frees a result and all that it points to. */
RUBRICRM_API void rubricrm_result_free(const rubricrm_result* result);

/*
 * What was written since the event before. The texts of all events, joined, are the text of the result. The criteria of
 * all events, from the last one that takes back on, are those of the result's rubric.
 */
typedef struct rubricrm_event {
  rubricrm_text text;                 /* whole characters; empty only in the last event */
  const rubricrm_criterion* criteria; /* whose lines are complete now */
  size_t num_criteria;
  int32_t takes_back; /* 1: all criteria of earlier events turned out to be a thought. Else 0 */
} rubricrm_event;

/* ----------------------------------------------------------------------------------------------------- 6. Prompts */

/*
 * A bundle's texts without its model: prompts, tokenizer, stop ids, grammar. A prompt directory (a bundle with no
 * graphs) will do. It never changes: any number of threads may use it.
 */
typedef struct rubricrm_prompt rubricrm_prompt;

/* Which tokens may follow in an answer. It belongs to a prompt, and never changes. */
typedef struct rubricrm_grammar rubricrm_grammar;

/* Reads an answer while some engine generates it. One thread at a time may use it. */
typedef struct rubricrm_reader rubricrm_reader;

/* Token ids. */
typedef struct rubricrm_ids {
  const int32_t* data;
  size_t size;
} rubricrm_ids;

/* One field of a prompt and its value. */
typedef struct rubricrm_field {
  const char* name;  /* ends with NUL */
  const char* value; /* UTF-8 */
  size_t value_size; /* bytes, or RUBRICRM_NUL_TERMINATED */
} rubricrm_field;

/* One message of a conversation. */
typedef struct rubricrm_message {
  const char* role;    /* "system", "user" or "assistant" */
  const char* content; /* UTF-8 */
  size_t content_size; /* bytes, or RUBRICRM_NUL_TERMINATED */
} rubricrm_message;

/* What a bundle says about itself, and how its model runs. */
typedef struct rubricrm_facts {
  const char* name;            /* of the model */
  const char* weights;         /* "int4", ...; "none" for a prompt directory */
  const char* manifest_sha256; /* of the manifest's bytes, in hex */
  uint32_t num_tokens;         /* of the tokenizer: ids from here on are padding, and never chosen */
  uint32_t vocab_size;         /* rows of the logits */
  uint32_t context_length;     /* most tokens that prompt and answer have together */
  uint32_t max_new_tokens;     /* the default limit of an answer */
  int32_t starts_in_thought;   /* 1: answers begin inside a thought */
  const char* const* prompts;  /* the names of its prompts */
  size_t num_prompts;
  /* where the model runs; NULL for a prompt that was opened without it, as all that follows */
  const char* device;
  const char* kernels;         /* what computes its products */
  uint32_t threads;            /* that compute; 0 without a model */
  uint32_t max_concurrency;    /* most requests that are computed together; 0 without a model */
} rubricrm_facts;

/*
 * Opens the texts of a bundle or of a prompt directory. Most of the time is that of reading the tokenizer's file.
 *
 *   path    The directory, UTF-8 as the file system has it.
 *   verify  ON: also compare the hash of every file with the manifest. DEFAULT is OFF.
 *   prompt  Receives the prompt, to be freed with rubricrm_prompt_free.
 *
 * Fails with BUNDLE_NOT_FOUND, BUNDLE_INVALID, BUNDLE_VERSION_UNSUPPORTED, OPTION_INVALID.
 */
RUBRICRM_API rubricrm_code rubricrm_prompt_open(const char* path, rubricrm_switch verify, rubricrm_prompt** prompt,
                                                rubricrm_error* error);

/* Frees a prompt that was opened, and its grammars. */
RUBRICRM_API void rubricrm_prompt_free(rubricrm_prompt* prompt);

/* Returns what the bundle says about itself; NULL for NULL. It belongs to the prompt. */
RUBRICRM_API const rubricrm_facts* rubricrm_prompt_facts(const rubricrm_prompt* prompt);

/*
 * Turns a request into the ids of the whole prompt "rubric". What a user typed is text, always: "<|im_end|>" in it is
 * no control token.
 *
 *   request, size  What a user asked some assistant to do.
 *   ids            Receives the ids, to be freed with rubricrm_ids_free.
 *
 * Fails with REQUEST_INVALID, OPTION_INVALID. The cost is linear.
 */
RUBRICRM_API rubricrm_code rubricrm_encode_request(const rubricrm_prompt* prompt, const char* request, size_t size,
                                                   const rubricrm_ids** ids, rubricrm_error* error);

/*
 * Turns values into the ids of one of the bundle's prompts, a judge's for example.
 *
 *   name                Of the prompt; NULL: "rubric", or "judge-pairwise" in a bundle without that one.
 *   fields, num_fields  The value of each field of the prompt, in any order, each once.
 *   ids                 Receives the ids, to be freed with rubricrm_ids_free.
 *
 * Fails with OPTION_INVALID for an unknown prompt, and a missing, unknown or repeated field; the message lists what
 * there is. REQUEST_INVALID for a value.
 */
RUBRICRM_API rubricrm_code rubricrm_encode_fields(const rubricrm_prompt* prompt, const char* name,
                                                  const rubricrm_field* fields, size_t num_fields,
                                                  const rubricrm_ids** ids, rubricrm_error* error);

/*
 * Turns a conversation into the ids of a prompt, ready for the model's turn. The last message is the user's; a system
 * message may only come first.
 *
 * Fails with OPTION_INVALID for an order or role that the model's chat template has no place for, REQUEST_INVALID for a
 * text.
 */
RUBRICRM_API rubricrm_code rubricrm_encode_messages(const rubricrm_prompt* prompt, const rubricrm_message* messages,
                                                    size_t num_messages, const rubricrm_ids** ids,
                                                    rubricrm_error* error);

/*
 * Writes the user's message of one of the bundle's prompts as text, without the chat template around it: for an engine
 * that takes messages and applies the chat template itself. Such an engine may take "<|im_end|>" in a value for a
 * control token; ids have no such risk. Arguments and errors as rubricrm_encode_fields.
 *
 *   text  Receives the text, to be freed with rubricrm_text_free.
 */
RUBRICRM_API rubricrm_code rubricrm_render_fields(const rubricrm_prompt* prompt, const char* name,
                                                  const rubricrm_field* fields, size_t num_fields,
                                                  const rubricrm_text** text, rubricrm_error* error);

/*
 * Gives the ids that begin the prompt "rubric" whatever the request is: what an engine may keep in its prefix cache.
 * They are to be freed with rubricrm_ids_free.
 */
RUBRICRM_API rubricrm_code rubricrm_fixed_prefix(const rubricrm_prompt* prompt, const rubricrm_ids** ids,
                                                 rubricrm_error* error);

/*
 * Encodes a text alone: no template, no control tokens. It may be empty and hold NUL. REQUEST_INVALID if it is no
 * UTF-8. The ids are to be freed with rubricrm_ids_free.
 */
RUBRICRM_API rubricrm_code rubricrm_tokenize(const rubricrm_prompt* prompt, const char* text, size_t size,
                                             const rubricrm_ids** ids, rubricrm_error* error);

/*
 * Decodes ids into a text, control tokens left out. Bytes that are no UTF-8 become U+FFFD.
 *
 *   text  Receives the text, to be freed with rubricrm_text_free.
 *
 * Fails with OPTION_INVALID for an id that the tokenizer does not have.
 */
RUBRICRM_API rubricrm_code rubricrm_detokenize(const rubricrm_prompt* prompt, const int32_t* ids, size_t num_ids,
                                               const rubricrm_text** text, rubricrm_error* error);

/*
 * Returns the ids that end an answer to a prompt. They belong to the prompt. NULL where there is no prompt of that name
 * (NULL: as in rubricrm_encode_fields).
 */
RUBRICRM_API const rubricrm_ids* rubricrm_stop_ids(const rubricrm_prompt* prompt, const char* name);

RUBRICRM_API void rubricrm_ids_free(const rubricrm_ids* ids); /* not those of rubricrm_stop_ids: it ignores them */

/*
 * Returns the grammar of a prompt (NULL: as in rubricrm_encode_fields), which belongs to the prompt. NULL where the
 * bundle holds none.
 *
 * A grammar is an automaton. Its states are numbers: 1 before the first token of an answer, 0 after the end. A program
 * asks for the mask of a state, lets its sampler choose among what is allowed, and goes on with rubricrm_grammar_next.
 */
RUBRICRM_API const rubricrm_grammar* rubricrm_prompt_grammar(const rubricrm_prompt* prompt, const char* name);

/* The state before the first token of an answer. */
#define RUBRICRM_GRAMMAR_START 1

/*
 * Returns the state after a token; -1 if the token cannot follow, or there is no such state or token.
 */
RUBRICRM_API int32_t rubricrm_grammar_next(const rubricrm_grammar* grammar, int32_t state, int32_t token_id);

/*
 * Returns the fewest tokens from a state to the end of a whole text, the stop id included; -1 if there is no such
 * state.
 */
RUBRICRM_API int32_t rubricrm_grammar_shortest(const rubricrm_grammar* grammar, int32_t state);

/*
 * Writes which tokens may follow, so that a whole end still fits into the tokens left.
 *
 *   tokens_left  How many tokens may still come, the next one and the stop id included.
 *   mask         Bit i % 32 of word i / 32 is set if token i may follow: what the samplers of TensorRT and XGrammar
 *                read.
 *   num_words    Of `mask`: at least (num_tokens + 31) / 32. More are set to 0, so a mask may cover the whole
 *                vocabulary.
 *
 * Fails with OPTION_INVALID for no such state, or a mask that is too small. It costs about 100 microseconds for 150,000
 * tokens.
 */
RUBRICRM_API rubricrm_code rubricrm_grammar_mask(const rubricrm_grammar* grammar, int32_t state, uint32_t tokens_left,
                                                 uint32_t* mask, size_t num_words, rubricrm_error* error);

/*
 * Writes the tokens that must follow, as long as there is one way to go on: they need not be computed.
 *
 *   ids    Room for `limit` ids. May be NULL if `limit` is 0.
 *
 * Returns how many there are, at most `limit`; 0 where there is a choice, and for what is no state.
 */
RUBRICRM_API size_t rubricrm_grammar_forced(const rubricrm_grammar* grammar, int32_t state, int32_t* ids, size_t limit);

/* How an answer is read. */
typedef struct rubricrm_reader_options {
  size_t struct_size;
  const char* prompt;                 /* the name of the prompt that is answered, for its stop ids. Default "rubric" */
  const char* const* stop;            /* texts that end the answer and are no part of it, UTF-8 */
  size_t num_stop;
  rubricrm_switch stop_on_repetition; /* end a text that goes in circles. Default ON */
  int32_t reserved;                   /* 0 */
} rubricrm_reader_options;

/*
 * Makes a reader of one answer. Criteria are read if the prompt is "rubric".
 *
 *   prompt   The reader keeps what it needs of it. NULL: for answers that come as text, with rubricrm_reader_push_text
 *            alone.
 *   options  May be NULL.
 *   reader   Receives the reader, to be freed with rubricrm_reader_free.
 */
RUBRICRM_API rubricrm_code rubricrm_reader_new(const rubricrm_prompt* prompt, const rubricrm_reader_options* options,
                                               rubricrm_reader** reader, rubricrm_error* error);

/*
 * Takes tokens that the engine chose.
 *
 *   ids, num_ids  In order. Those after the one that ends the answer are ignored.
 *   event         Receives what they brought; its text is empty if they brought no whole character. It belongs to the
 *                 reader until the next call with it. May be NULL.
 *   reason        Receives why the engine should stop: RUBRICRM_STOP (a stop id or a stop string) or
 *                 RUBRICRM_REPETITION; RUBRICRM_UNFINISHED while it should go on. May be NULL.
 *
 * Fails with OPTION_INVALID for an id that the tokenizer does not have, and after rubricrm_reader_finish.
 */
RUBRICRM_API rubricrm_code rubricrm_reader_push(rubricrm_reader* reader, const int32_t* ids, size_t num_ids,
                                                const rubricrm_event** event, rubricrm_finish_reason* reason,
                                                rubricrm_error* error);

/*
 * Takes a piece of text instead, from an engine that gives no ids. A piece may end inside a character. Otherwise as
 * rubricrm_reader_push. A circle is not looked for. An answer comes as ids or as text: the other one is OPTION_INVALID.
 */
RUBRICRM_API rubricrm_code rubricrm_reader_push_text(rubricrm_reader* reader, const char* piece, size_t size,
                                                     const rubricrm_event** event, rubricrm_finish_reason* reason,
                                                     rubricrm_error* error);

/*
 * Ends the answer.
 *
 *   reason  Why: RUBRICRM_STOP if it is whole. RUBRICRM_UNFINISHED: what the pushes found, else RUBRICRM_CANCELLED.
 *   event   Receives what was held back until now. As above; may be NULL.
 */
RUBRICRM_API rubricrm_code rubricrm_reader_finish(rubricrm_reader* reader, int32_t reason,
                                                  const rubricrm_event** event, rubricrm_error* error);

/*
 * Returns the text so far; the whole text after rubricrm_reader_finish. It belongs to the reader until the next call
 * with it.
 */
RUBRICRM_API rubricrm_text rubricrm_reader_text(const rubricrm_reader* reader);

/*
 * Returns the rubric of the whole text after rubricrm_reader_finish, NULL before, and for other prompts. It belongs to
 * the reader.
 */
RUBRICRM_API const rubricrm_rubric* rubricrm_reader_rubric(const rubricrm_reader* reader);

/* Frees a reader and its events. */
RUBRICRM_API void rubricrm_reader_free(rubricrm_reader* reader);

/* ------------------------------------------------------------------------------------------------------ 7. Models */

/* An open model. Any number of threads may use it. */
typedef struct rubricrm_model rubricrm_model;

/*
 * Gets a warning, in the thread that opens a model. The message lives until it returns. It must not throw or longjmp,
 * nor call the library.
 */
typedef void (*rubricrm_warning_callback)(const char* message, void* user);

/* How a model is opened. */
typedef struct rubricrm_model_options {
  size_t struct_size;
  /* "cpu", "cuda", "tensorrt" or "tensorrt-rtx". Default: what the bundle was exported for. It runs there or not at
   * all: nothing falls back to the CPU. */
  const char* device;
  /* Threads to compute with. Default: the cores that this process may really use. */
  uint32_t threads;
  /* Most requests that are computed together, 1 to 128. Default 8. */
  uint32_t max_concurrency;
  /* Most requests that wait beside them; one more gets ENGINE_BUSY. Default 1000. */
  uint32_t max_waiting;
  /* Compare the hash of every file with the manifest. Default OFF. */
  rubricrm_switch verify;
  /* Keep keys and values of a prompt for the next one that begins alike. No result depends on it, but times do: OFF
   * where nobody may learn from them what somebody else has asked. Default ON. */
  rubricrm_switch keep_prompts;
  /* Verify drafted tokens where that is quicker. No result depends on it, but times do. Default ON. */
  rubricrm_switch draft;
  /* Keep phrases of rubrics in the cache directory, and draft from them after the next opening. Default OFF. */
  rubricrm_switch save_phrases;
  int32_t reserved; /* 0 */
  /* Most bytes of keys and values. Default: as many as the requests need. */
  uint64_t max_memory;
  /* Read phrases from this regular file, and save them there when the model is closed, instead. Default: none. */
  const char* phrases_file;
  /* The file of ONNX Runtime's library, 1.21 or later. Default: $RUBRICRM_ONNXRUNTIME, else libonnxruntime.so.1 beside
   * this library or where the system looks for libraries. */
  const char* onnxruntime;
  /* The file of librubricrm_kernels.so. Default: $RUBRICRM_KERNELS_LIBRARY, else the one beside this library, or in the
   * folder `rubricrm` there. */
  const char* kernels;
  /* Gets what a user should know though nothing failed, while the model is opened. Default: nobody does. */
  rubricrm_warning_callback on_warning;
  void* warning_user;
  /* The directory for what belongs to this machine: keys and values of a prompt, costs of steps, phrases, weights in
   * another layout. It is made with the mode 0700 if it is missing, and used only if no other user can write it; else
   * there is a warning, and every opening computes again. Default: $RUBRICRM_CACHE, else `rubricrm` in the user's cache
   * ($XDG_CACHE_HOME, else ~/.cache). */
  const char* cache_directory;
} rubricrm_model_options;

/*
 * Opens a bundle. Milliseconds where its weights are in the packed layout. The first opening on a machine may take
 * seconds for a large model: what it computes is kept in the cache directory (see the options); the Python package uses
 * the same files.
 *
 * The first graph of the bundle that the device here can run is chosen, but none whose way to keep keys and values is
 * `paged` or `concatenate`: the library does not run those. Where the bundle has the weights of that graph in another
 * layout only, they are derived once (2 GB: seconds) and kept in the cache directory; without one that can be used,
 * each opening writes them into a temporary directory ($TMPDIR) and removes them. `rubricrm convert --layout packed`
 * does the same to a bundle for good.
 *
 * Files of the bundle and of the cache directory are mapped: one that somebody shortens while a model is open ends the
 * process with SIGBUS. Replace files (write another one, rename it), and never change them in place.
 *
 * The first opening sets ORT_DISABLE_TELEMETRY=1 in the process's environment unless it is set: no other thread may
 * read or change the environment meanwhile. A program whose threads do so sets the variable itself before.
 *
 *   path     The directory.
 *   options  May be NULL. Its texts are copied.
 *   model    Receives the model, to be freed with rubricrm_model_free.
 *
 * Fails with BUNDLE_NOT_FOUND, BUNDLE_INVALID, BUNDLE_VERSION_UNSUPPORTED, GRAPH_UNUSABLE (a prompt directory too),
 * OPTION_INVALID, OPTION_UNKNOWN, RUNTIME_MISSING, RUNTIME_FAILED.
 */
RUBRICRM_API rubricrm_code rubricrm_model_open(const char* path, const rubricrm_model_options* options,
                                               rubricrm_model** model, rubricrm_error* error);

/*
 * Ends every request with MODEL_CLOSED and frees the model's memory; the handle stays. A step in progress ends at its
 * next operator. Calls that wait in other threads return MODEL_CLOSED, and so does every later call with the model. It
 * may be called from any thread, in a callback too, and again. Saves phrases if that was asked for.
 *
 * Fails with WRITE_FAILED if phrases cannot be saved; the model is closed all the same.
 */
RUBRICRM_API rubricrm_code rubricrm_model_close(rubricrm_model* model, rubricrm_error* error);

/*
 * Closes a model and frees its handle. Requests of it are freed on their own, before or after, and calls that wait for
 * one in another thread return MODEL_CLOSED. A call with the model itself must not be under way in another thread:
 * close the model first, and wait for the thread. In an event's callback it is allowed: the call that runs the callback
 * then returns MODEL_CLOSED, or ends as usual if the generation had ended before.
 */
RUBRICRM_API void rubricrm_model_free(rubricrm_model* model);

/*
 * Returns what the model is and where it runs; NULL for NULL. It belongs to the model, and stays after
 * rubricrm_model_close.
 */
RUBRICRM_API const rubricrm_facts* rubricrm_model_facts(const rubricrm_model* model);

/* Returns the model's texts, for the functions of section 6; NULL for NULL. They belong to the model. */
RUBRICRM_API const rubricrm_prompt* rubricrm_model_prompt(const rubricrm_model* model);

/* How to generate. All defaults: greedy, up to the bundle's limit, in the form of a rubric. */
typedef struct rubricrm_generation_options {
  size_t struct_size;
  /* Most tokens to write. Default: the bundle's limit. */
  uint32_t max_new_tokens;
  /* Sample from the k most probable tokens. Default: from all. */
  uint32_t top_k;
  /* 0 is greedy. Else, from 0.001 to 100, logits are divided by it. */
  double temperature;
  /* Sample from the fewest tokens that hold this much probability, above 0, at most 1. Default 1. */
  double top_p;
  /* Drop tokens less probable than this part of the most probable one, 0 to 1. Default 0. */
  double min_p;
  /* Return what there is after so many seconds; waiting for other requests counts. Default: no limit. */
  double timeout_s;
  /* Makes sampling repeatable, if has_seed is ON. Else one is drawn, and reported in the result. */
  uint64_t seed;
  rubricrm_switch has_seed;
  /* Of requests that wait, those with the highest priority are computed first. Default 0. */
  int32_t priority;
  /* Return the log-probability of each token, and of the num_top_logprobs most probable ones (0 to 20). Default OFF. */
  rubricrm_switch logprobs;
  uint32_t num_top_logprobs;
  /* End a text that goes in circles. Default ON. */
  rubricrm_switch stop_on_repetition;
  /* Hold the answer to the form of its prompt, where the bundle has one. Default ON. */
  rubricrm_switch constrain;
  /* Texts that end the answer and are no part of it: UTF-8, each ends with NUL and is not empty. Default: none. */
  const char* const* stop;
  size_t num_stop;
} rubricrm_generation_options;

/*
 * Writes the rubric of a request, and waits for it.
 *
 *   request, size  What a user asked some assistant to do.
 *   options        May be NULL.
 *   result         Receives the result, to be freed with rubricrm_result_free. A malformed or cut rubric is a result:
 *                  see its issues and finish_reason.
 *
 * Several threads may generate at a time: their requests are computed together, for little more than the price of one.
 * On this project's kernels no result depends on what else runs.
 *
 * Fails with REQUEST_INVALID, PROMPT_TOO_LONG, OPTION_INVALID, OPTION_UNKNOWN, ENGINE_BUSY, OUTPUT_INVALID,
 * RUNTIME_FAILED, MODEL_CLOSED.
 */
RUBRICRM_API rubricrm_code rubricrm_generate(rubricrm_model* model, const char* request, size_t size,
                                             const rubricrm_generation_options* options, const rubricrm_result** result,
                                             rubricrm_error* error);

/*
 * Is called with each event of a generation, in the thread that waits for it. That thread computes nothing meanwhile
 * and holds no lock, so a slow callback delays only its own stream, and it may call any function of the library, for
 * this model too. Of its own request it may call rubricrm_request_cancel, _state and _free; reading it there is
 * STREAM_BUSY.
 *
 *   event  Lives until the callback returns.
 *   user   What was given with the callback.
 *
 * Returns 0 to go on; anything else cancels the generation. It must not throw or longjmp.
 */
typedef int (*rubricrm_event_callback)(const rubricrm_event* event, void* user);

/*
 * As rubricrm_generate, with a callback for each piece of text and the criteria that it completes. A result that the
 * callback cancelled has the finish reason RUBRICRM_CANCELLED.
 *
 *   callback  NULL: none.
 *   result    May be NULL if the result is not wanted.
 */
RUBRICRM_API rubricrm_code rubricrm_stream(rubricrm_model* model, const char* request, size_t size,
                                           const rubricrm_generation_options* options, rubricrm_event_callback callback,
                                           void* user, const rubricrm_result** result, rubricrm_error* error);

/*
 * As rubricrm_generate, for one of the bundle's prompts by name and its fields: see rubricrm_encode_fields. The result
 * of any other prompt than "rubric" has text and no rubric.
 */
RUBRICRM_API rubricrm_code rubricrm_generate_fields(rubricrm_model* model, const char* name,
                                                    const rubricrm_field* fields, size_t num_fields,
                                                    const rubricrm_generation_options* options,
                                                    const rubricrm_result** result, rubricrm_error* error);

/*
 * As rubricrm_generate, for a conversation, without any template: see rubricrm_encode_messages. The result has text and
 * no rubric.
 */
RUBRICRM_API rubricrm_code rubricrm_generate_messages(rubricrm_model* model, const rubricrm_message* messages,
                                                      size_t num_messages, const rubricrm_generation_options* options,
                                                      const rubricrm_result** result, rubricrm_error* error);

/* ---------------------------------------------------------------------------------------------------- 8. Requests */

/*
 * A generation that was submitted, and what reads it.
 *
 * Submitting computes nothing. Steps compute: each takes a few tokens of every request that has a slot. They are made
 * by whoever waits. The first thread that waits leads: it makes one step after the other until what it waits for is
 * there. Other threads that wait sleep, and one of them takes over then. So a program of any number of threads computes
 * all its requests together, without a thread of the library's own.
 *
 * A program with a loop of its own never waits: it calls rubricrm_model_step as long as there is work, and
 * rubricrm_request_poll for what is new. A request that nobody waits for and nobody steps for stands still; its timeout
 * counts all the same.
 *
 * One call at a time may read a request (poll, next, wait, stream, result): another one meanwhile gets STREAM_BUSY.
 * Cancelling it and asking for its state is allowed from any thread at any time.
 */
typedef struct rubricrm_request rubricrm_request;

/* Where a request stands. */
typedef enum rubricrm_state {
  RUBRICRM_WAITING = 0,    /* for a slot */
  RUBRICRM_PREFILLING = 1, /* its prompt is computed */
  RUBRICRM_DECODING = 2,   /* each step decides a token, or several */
  RUBRICRM_FINISHED = 3    /* nothing more comes; events may still be unread */
} rubricrm_state;

/*
 * Lets a request for a rubric be computed, and returns at once.
 *
 *   request, size  What a user asked some assistant to do. It is copied, as are the options.
 *   options        May be NULL.
 *   handle         Receives the request, to be freed with rubricrm_request_free.
 *
 * Fails as rubricrm_generate; what fails later is said by the calls that read the request.
 */
RUBRICRM_API rubricrm_code rubricrm_submit(rubricrm_model* model, const char* request, size_t size,
                                           const rubricrm_generation_options* options, rubricrm_request** handle,
                                           rubricrm_error* error);

/* As rubricrm_submit, for one of the bundle's prompts by name and its fields. */
RUBRICRM_API rubricrm_code rubricrm_submit_fields(rubricrm_model* model, const char* name, const rubricrm_field* fields,
                                                  size_t num_fields, const rubricrm_generation_options* options,
                                                  rubricrm_request** handle, rubricrm_error* error);

/* As rubricrm_submit, for a conversation. */
RUBRICRM_API rubricrm_code rubricrm_submit_messages(rubricrm_model* model, const rubricrm_message* messages,
                                                    size_t num_messages, const rubricrm_generation_options* options,
                                                    rubricrm_request** handle, rubricrm_error* error);

/*
 * Makes one step for all requests of a model. If another thread is making one, it waits for the end of that one
 * instead, and makes one after it only if that one had begun before the call and found nothing to compute.
 *
 *   has_work  Receives 1 if there was something to compute, else 0: call again when something was submitted. May be
 *             NULL.
 *
 * A step takes as long as the model needs for one token of each request, or for a part of a prompt. What fails in a
 * step ends the requests that it was for; it is not returned here. Fails with MODEL_CLOSED.
 */
RUBRICRM_API rubricrm_code rubricrm_model_step(rubricrm_model* model, int32_t* has_work, rubricrm_error* error);

/* Returns where a request stands; RUBRICRM_FINISHED for NULL. */
RUBRICRM_API rubricrm_state rubricrm_request_state(const rubricrm_request* request);

/*
 * Gives the next event if it is there, and never waits.
 *
 *   event  Receives the event, or NULL: nothing is new, or everything was read (then the state is FINISHED). It belongs
 *          to the request until the next call that reads it.
 *
 * Fails with what the generation failed with, after its last event; STREAM_BUSY.
 */
RUBRICRM_API rubricrm_code rubricrm_request_poll(rubricrm_request* request, const rubricrm_event** event,
                                                 rubricrm_error* error);

/* As rubricrm_request_poll, but waits: NULL means that everything was read. */
RUBRICRM_API rubricrm_code rubricrm_request_next(rubricrm_request* request, const rubricrm_event** event,
                                                 rubricrm_error* error);

/* Waits for the end, without reading events. Fails with what the generation failed with; STREAM_BUSY. */
RUBRICRM_API rubricrm_code rubricrm_request_wait(rubricrm_request* request, rubricrm_error* error);

/* Waits for the end, and gives each event that was not read yet to a callback; as rubricrm_stream. */
RUBRICRM_API rubricrm_code rubricrm_request_stream(rubricrm_request* request, rubricrm_event_callback callback,
                                                   void* user, rubricrm_error* error);

/*
 * Ends a generation now, with the reason RUBRICRM_CANCELLED, unless it has ended. What was written stays, and can be
 * read.
 */
RUBRICRM_API void rubricrm_request_cancel(rubricrm_request* request);

/*
 * Gives the result; ends the generation if it still runs. It is complete whatever was read of the request's events, and
 * each call makes a new one, to be freed with rubricrm_result_free.
 *
 * Fails with what the generation failed with; STREAM_BUSY.
 */
RUBRICRM_API rubricrm_code rubricrm_request_result(rubricrm_request* request, const rubricrm_result** result,
                                                   rubricrm_error* error);

/*
 * Frees a request and its events; cancels it if it still runs. In its own callback it is allowed: the call that runs
 * the callback then returns.
 */
RUBRICRM_API void rubricrm_request_free(rubricrm_request* request);

/* What became of one of many requests: a result or an error, and never neither. */
typedef struct rubricrm_outcome {
  size_t index;                  /* the request's place, from 0 */
  const rubricrm_result* result; /* NULL: there is an error. It is the callback's, to be freed with rubricrm_result_free
                                    there or later */
  const rubricrm_error* error;   /* why there is no result; NULL where there is one. Lives until the callback returns */
} rubricrm_outcome;

/*
 * Is called with each outcome, in the thread that called rubricrm_generate_many. That thread computes nothing meanwhile
 * and holds no lock: the callback may call any function of the library, for this model too. What runs goes on if
 * another thread waits for something of this model; else it stands still until the callback returns.
 *
 * Returns 0 to go on; anything else cancels what still runs, and nothing more is begun. It must not throw or longjmp.
 */
typedef int (*rubricrm_outcome_callback)(const rubricrm_outcome* outcome, void* user);

/*
 * Writes the rubrics of many requests, several at a time, and gives the outcome of each as it ends. Without an end that
 * the callback asked for, each request has exactly one outcome.
 *
 *   requests, num_requests  The texts, read during the call; a size may be RUBRICRM_NUL_TERMINATED.
 *   options                 Of every request. May be NULL.
 *   max_concurrency         Most of them that run at a time; 0: as many as the model computes together.
 *   callback, user          What gets outcomes. Not NULL.
 *
 * What fails with one request (REQUEST_INVALID, PROMPT_TOO_LONG, OUTPUT_INVALID, RUNTIME_FAILED, MODEL_CLOSED) is the
 * outcome of that one, and the others go on. Where requests of others fill the queue (ENGINE_BUSY), a request waits for
 * one of this call to end and is tried again; it has the outcome ENGINE_BUSY only if none of this call runs.
 *
 * Fails with OPTION_INVALID, OPTION_UNKNOWN before anything runs. A call that the callback ended returns RUBRICRM_OK.
 */
RUBRICRM_API rubricrm_code rubricrm_generate_many(rubricrm_model* model, const rubricrm_text* requests,
                                                  size_t num_requests, const rubricrm_generation_options* options,
                                                  uint32_t max_concurrency, rubricrm_outcome_callback callback,
                                                  void* user, rubricrm_error* error);

#ifdef __cplusplus
}
#endif

#endif /* RUBRICRM_H */
