#include "rubricrm.hpp"
#include "run/arguments.h"
#include "run/commands.h"
#include "run/terminal.h"

namespace rubricrm::run {

const char* const kParseHelp =
    "Usage: rubricrm-run parse [OPTIONS] [FILE]\n\n"
    "Read a rubric's text, UTF-8, from FILE (or -, standard input) and print what is in it.\n"
    "Any text is read: what is not in the usual form is listed as an issue, and the exit code is 0.\n\n"
    "  --starts-in-thought     The prompt that it answers ended with an opening tag.\n"
    "  --json                  Print the rubric as one JSON object.\n";

int parse(const std::vector<std::string>& words) {
  const Arguments arguments(words, {}, {"--json", "--starts-in-thought"});
  if (arguments.words().size() > 1) throw UsageError("Give one FILE.");
  auto options = defaults<rubricrm_parse_options>();
  options.starts_in_thought = arguments.has("--starts-in-thought") ? RUBRICRM_ON : RUBRICRM_OFF;
  const Rubric rubric(read_text(arguments.words().empty() ? "-" : arguments.words()[0]), options);
  if (arguments.has("--json")) {
    print_json(rubric.json());
  } else {
    print_rubric(*rubric.get());
  }
  return 0;
}

}  // namespace rubricrm::run
