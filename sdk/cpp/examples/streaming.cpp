// A rubric into a terminal while it is written, in C++; Ctrl-C ends it. streaming BUNDLE REQUEST
#include <atomic>
#include <csignal>
#include <cstdio>
#include <iostream>

#include <rubricrm.hpp>

namespace {

std::atomic<bool> is_interrupted{false};

// No function of the library may be called from a signal's handler: it leaves a note.
void interrupt(int) { is_interrupted = true; }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " BUNDLE REQUEST\n";
    return 2;
  }
  std::signal(SIGINT, interrupt);
  try {
    rubricrm::Model model(argv[1]);
    const rubricrm::Result result = model.stream(argv[2], [](const rubricrm_event& event) {
      std::cout << rubricrm::view(event.text) << std::flush;
      return !is_interrupted;
    });
    std::cout << "\n";
    std::cerr << result.criteria().size() << " criteria, " << rubricrm_finish_reason_name(result.finish_reason())
              << "\n";
  } catch (const rubricrm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
  return 0;
}
