// A rubric into a terminal while it is written, in C++; Ctrl-C ends it. streaming BUNDLE REQUEST
#include <atomic>
#include <csignal>
#include <iostream>

#include <rubricrm.hpp>

namespace {

std::atomic<bool> is_interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

// A signal's handler may call next to nothing of the library ("Signals" in rubricrm.h): it leaves a note.
void interrupt(int) { is_interrupted = true; }

// Computes one step after the other and prints what each brings. Model::stream is shorter, but it calls back only where
// there is text: a long prompt takes many steps before that, and here the note is read after each.
void run(rubricrm::Model& model, rubricrm::Request& request) {
  while (!request.is_finished()) {
    model.step();
    if (is_interrupted) request.cancel();
    while (const rubricrm_event* event = request.poll()) std::cout << rubricrm::view(event->text) << std::flush;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " BUNDLE REQUEST\n";
    return 2;
  }
  std::signal(SIGINT, interrupt);
  try {
    rubricrm::Model model(argv[1]);
    rubricrm::Request request = model.submit(argv[2]);
    run(model, request);
    const rubricrm::Result result = request.result();
    std::cout << "\n";
    std::cerr << result.criteria().size() << " criteria, " << rubricrm_finish_reason_name(result.finish_reason())
              << "\n";
  } catch (const rubricrm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
  return 0;
}
