#include <climits>
#include <cstdio>
#include <cstdlib>

#include "rubricrm.hpp"
#include "run/arguments.h"
#include "run/commands.h"
#include "run/terminal.h"

namespace rubricrm::run {

const char* const kGenerateHelp =
    "Usage: rubricrm-run generate [OPTIONS] REQUEST\n\n"
    "Write the rubric of REQUEST; with -, the request is read from standard input.\n"
    "The exit code is 3 where the rubric is incomplete: a line on standard error says why.\n\n"
    "  -m, --model BUNDLE      Bundle to use; else $RUBRICRM_MODEL.\n"
    "  --json                  Print one JSON object.\n"
    "  --no-stream             Print the text when it is complete.\n"
    "  --max-new-tokens N      Most tokens to write.\n"
    "  --temperature T         0 is greedy.  [default: 0]\n"
    "  --top-k K               Sample from the K most probable.\n"
    "  --top-p P               Sample from this much probability.\n"
    "  --min-p P               Least probability, relative.\n"
    "  --seed N                Makes sampling repeatable.\n"
    "  --stop TEXT             End before this text; may be given again.\n"
    "  --timeout SECONDS       Return what there is after this time.\n"
    "  --no-stop-on-repetition Let a text go in circles.\n"
    "  --no-constrain          Do not hold the rubric to its form.\n"
    "  --device NAME           Where to run.  [default: the bundle's target]\n"
    "  --threads N             Threads to compute with.\n"
    "  --verify                Compare the bundle's hashes first.\n"
    "  --onnxruntime FILE      Library of ONNX Runtime.\n"
    "  --kernels FILE          Library of this project's kernels.\n";

namespace {

// Options, and what their pointers point to.
struct Asked {
  explicit Asked(const Arguments& arguments) : stops(arguments.values("--stop")) {
    for (const std::string& stop : stops) stop_pointers.push_back(stop.c_str());
    options.stop = stop_pointers.data();
    options.num_stop = stop_pointers.size();
    options.max_new_tokens = static_cast<uint32_t>(limit(arguments, "--max-new-tokens"));
    options.top_k = static_cast<uint32_t>(arguments.integer("--top-k", UINT32_MAX).value_or(0));
    options.temperature = arguments.number("--temperature").value_or(0);
    options.top_p = positive(arguments, "--top-p");
    options.min_p = arguments.number("--min-p").value_or(0);
    options.timeout_s = positive(arguments, "--timeout");
    if (const auto seed = arguments.integer("--seed", UINT64_MAX)) {
      options.has_seed = RUBRICRM_ON;
      options.seed = *seed;
    }
    if (arguments.has("--no-stop-on-repetition")) options.stop_on_repetition = RUBRICRM_OFF;
    if (arguments.has("--no-constrain")) options.constrain = RUBRICRM_OFF;
  }

  // The library takes 0 for "not given".
  static uint64_t limit(const Arguments& arguments, const char* name) {
    const auto count = arguments.integer(name, UINT32_MAX);
    if (count && *count == 0) throw UsageError(std::string(name) + " must be at least 1.");
    return count.value_or(0);
  }
  static double positive(const Arguments& arguments, const char* name) {
    const auto number = arguments.number(name);
    if (number && *number == 0) throw UsageError(std::string(name) + " must be greater than 0.");
    return number.value_or(0);
  }

  std::vector<std::string> stops;
  std::vector<const char*> stop_pointers;
  GenerationOptions options = defaults<GenerationOptions>();
};

Model open(const Arguments& arguments) {
  const char* variable = std::getenv("RUBRICRM_MODEL");
  const std::string otherwise = arguments.value("-m").value_or(variable ? variable : "");
  const std::string path = arguments.value("--model").value_or(otherwise);
  if (path.empty()) throw UsageError("Give --model BUNDLE, or set RUBRICRM_MODEL.");
  auto options = defaults<rubricrm_model_options>();
  const std::string device = arguments.value("--device").value_or("");
  const std::string onnxruntime = arguments.value("--onnxruntime").value_or("");
  const std::string kernels = arguments.value("--kernels").value_or("");
  options.device = device.empty() ? nullptr : device.c_str();
  options.onnxruntime = onnxruntime.empty() ? nullptr : onnxruntime.c_str();
  options.kernels = kernels.empty() ? nullptr : kernels.c_str();
  options.threads = static_cast<uint32_t>(arguments.integer("--threads", INT_MAX).value_or(0));
  options.verify = arguments.has("--verify") ? RUBRICRM_ON : RUBRICRM_OFF;
  return Model(path, options);
}

std::string request_of(const Arguments& arguments) {
  if (arguments.words().size() != 1) throw UsageError("Give one REQUEST, or - to read it from standard input.");
  std::string text = arguments.words()[0];
  if (text == "-") text = read_text("-");
  // What a file says, whatever system wrote it.
  for (size_t at = text.find("\r\n"); at != std::string::npos; at = text.find("\r\n", at)) text.erase(at, 1);
  text.erase(text.find_last_not_of("\r\n") + 1);
  return text;
}

std::string why_incomplete(const rubricrm_result& result, uint32_t context_length) {
  const uint64_t num_tokens = result.usage.completion_tokens;
  const std::string count = std::to_string(num_tokens);
  switch (result.finish_reason) {
    case RUBRICRM_LENGTH:
      if (result.usage.prompt_tokens + num_tokens >= context_length) {
        return "the model's context of " + std::to_string(context_length) + " tokens is full. Shorten the request.";
      }
      return "it reached the limit of " + count + " tokens. Raise --max-new-tokens.";
    case RUBRICRM_TIMEOUT:
      return "the time was over after " + count + " tokens. Raise --timeout.";
    case RUBRICRM_REPETITION:
      return "after " + count +
             " tokens the text goes in circles. Reword the request, or sample with --temperature 0.7; "
             "--no-stop-on-repetition lets it go on.";
    default:
      return "it was interrupted after " + count + " tokens. Run it again.";
  }
}

bool print_piece(const rubricrm_event& event) {
  std::fwrite(event.text.data, 1, event.text.size, stdout);
  std::fflush(stdout);
  return true;
}

}  // namespace

int generate(const std::vector<std::string>& words) {
  const Arguments arguments(words,
                            {"-m", "--model", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--min-p",
                             "--seed", "--stop", "--timeout", "--device", "--threads", "--onnxruntime", "--kernels"},
                            {"--json", "--no-stream", "--no-stop-on-repetition", "--stop-on-repetition",
                             "--no-constrain", "--constrain", "--verify"});
  const std::string request = request_of(arguments);
  const Asked asked(arguments);
  Model model = open(arguments);
  const bool as_json = arguments.has("--json");
  const bool streams = !as_json && !arguments.has("--no-stream");
  const Result result =
      streams ? model.stream(request, print_piece, asked.options) : model.generate(request, asked.options);
  if (as_json) {
    print_json(result.json());
  } else {
    std::printf("%s\n", streams ? "" : result->text.data);
    print_issues(*result->rubric, stderr);
  }
  if (result.finish_reason() == RUBRICRM_STOP) return 0;
  const std::string why = why_incomplete(*result.get(), model.facts().context_length);
  std::fprintf(stderr, "The rubric is incomplete: %s\n", why.c_str());
  return kIncomplete;
}

}  // namespace rubricrm::run
