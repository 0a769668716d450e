// rubricrm-run: a small command line over librubricrm.
#include <cstdio>
#include <cstring>
#include <exception>

#include "rubricrm.hpp"
#include "run/arguments.h"
#include "run/commands.h"

namespace {

using namespace rubricrm::run;

struct Command {
  const char* name;
  int (*run)(const std::vector<std::string>&);
  const char* help;
};

const Command kCommands[] = {
    {"generate", generate, kGenerateHelp}, {"parse", parse, kParseHelp}, {"inspect", inspect, kInspectHelp}};

const char* const kHelp =
    "Usage: rubricrm-run COMMAND [ARGUMENTS]\n\n"
    "  generate  Write the rubric of a request.\n"
    "  parse     Read a rubric's text and print what is in it.\n"
    "  inspect   Show what a bundle holds, and check that it is whole.\n\n"
    "rubricrm-run COMMAND --help says more; --version prints the version.\n";

bool asks_for_help(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word == "--") return false;
    if (word == "-h" || word == "--help") return true;
  }
  return false;
}

int fail(const char* message, int exit_code) {
  std::fprintf(stderr, "Error: %s\n", message);
  return exit_code;
}

// What the caller can mend is 2, work that failed is 1: as in rubricrm/errors.py.
int exit_code_of(rubricrm_code code) {
  switch (code) {
    case RUBRICRM_STREAM_BUSY:
    case RUBRICRM_ENGINE_BUSY:
    case RUBRICRM_RUBRIC_MALFORMED:
    case RUBRICRM_RUNTIME_MISSING:
    case RUBRICRM_RUNTIME_FAILED:
    case RUBRICRM_OUTPUT_INVALID:
    case RUBRICRM_MODEL_CLOSED:
    case RUBRICRM_WRITE_FAILED:
    case RUBRICRM_DEPENDENCY_MISSING:
      return kFailed;
    default:
      return kBadInput;
  }
}

int run(const Command& command, const std::vector<std::string>& words) {
  if (asks_for_help(words)) {
    std::fputs(command.help, stdout);
    return 0;
  }
  try {
    const int exit_code = command.run(words);
    // A full disk shows itself here.
    return std::fflush(stdout) == 0 ? exit_code : fail("standard output cannot be written.", kFailed);
  } catch (const rubricrm::Failure& failure) {
    return fail(failure.what(), exit_code_of(failure.code()));
  } catch (const UsageError& error) {
    return fail(error.what(), kBadInput);
  } catch (const std::exception& error) {
    return fail(error.what(), kFailed);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + (argc > 1 ? 2 : 1), argv + argc);
  const char* name = argc > 1 ? argv[1] : "--help";
  if (std::strcmp(name, "--version") == 0) {
    std::printf("rubricrm-run %s\n", rubricrm_version());
    return 0;
  }
  if (std::strcmp(name, "--help") == 0 || std::strcmp(name, "-h") == 0) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  for (const Command& command : kCommands) {
    if (std::strcmp(name, command.name) == 0) return run(command, words);
  }
  return fail(("No such command: " + std::string(name) + ". Try rubricrm-run --help.").c_str(), kBadInput);
}
