// How sessions end, and steps of several threads: on ONNX Runtime, and for sanitizers on a stub of it.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "expect_error.h"
#include "session_of_tests.h"

using namespace rubricrm;

namespace {

const fs::path kInt4 = path_of("tests/cases/engine/int4");

void expect_closed(Session& session, Slot& slot) {
  expect_error(Code::MODEL_CLOSED, "", [&] { session.check_open(); });
  expect_error(Code::MODEL_CLOSED, "", [&] { session.step({{&slot, {5}, 1}}); });
  expect_error(Code::MODEL_CLOSED, "", [&] { session.new_slots(1, 10); });
}

void test_closing() {
  const auto session = OnnxSession::open(Bundle::open(kInt4), options_of());
  const Slots slots = session->new_slots(1, 100);
  run(*session, *slots[0], {5});
  session->close();
  session->close();
  expect_closed(*session, *slots[0]);
  slots[0]->clear();  // its memory is its own
}

void test_closing_during_a_step() {
  const Bundle bundle = Bundle::open(kInt4);
  for (int trial = 0; trial < 20; ++trial) {
    const auto session = OnnxSession::open(bundle, options_of());
    const Slots slots = session->new_slots(1, 2000);
    std::atomic<bool> is_running{false};
    std::thread closing([&] {
      while (!is_running) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::microseconds(300 * trial));
      session->close();
    });
    expect_error(Code::MODEL_CLOSED, "closed", [&] {
      for (;;) {
        slots[0]->rewind(0);
        is_running = true;
        run(*session, *slots[0], varied_ids(256), 256);
      }
    });
    closing.join();
    expect_closed(*session, *slots[0]);
  }
}

void test_steps_of_several_threads() {
  const auto session = OnnxSession::open(Bundle::open(kInt4), options_of("", 2));
  const Slots slots = session->new_slots(4, 100);
  const Rows expected = run(*session, *session->new_slots(1, 100)[0], varied_ids(30));
  std::vector<std::thread> threads;
  std::atomic<int> count{0};
  for (int n = 0; n < 4; ++n) {
    // Each thread has an arena of its own: its logits stand until its next step.
    threads.emplace_back([&] {
      const Slots own = session->new_slots(1, 100);
      for (int trial = 0; trial < 10; ++trial) {
        own[0]->rewind(0);
        count += are_same(run(*session, *own[0], varied_ids(30)), expected);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(count == 40, "%d of 40 are the same", count.load());
}

void test_slots_that_outlive_their_session() {
  auto session = OnnxSession::open(Bundle::open(kInt4), options_of());
  const Slots slots = session->new_slots(2, 100);
  run(*session, *slots[0], {5, 6});
  session.reset();
  EXPECT(slots[0]->length() == 2, "its memory is its own");
}

void test_a_fork() {
  auto session = OnnxSession::open(Bundle::open(kInt4), options_of("", 2));
  Slots slots = session->new_slots(1, 100);
  const Rows expected = run(*session, *slots[0], {5, 6, 7});
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // rather than wait for ever
    expect_error(Code::MODEL_CLOSED, "cannot be used in its fork", [&] { session->step({{slots[0].get(), {5}, 1}}); });
    session->close();
    slots.clear();
    session.reset();
    _exit(failures);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT(status == 0, "the fork ended with %d", status);
  slots[0]->rewind(0);
  EXPECT(are_same(run(*session, *slots[0], {5, 6, 7}), expected), "the parent goes on");
}

}  // namespace

int main() {
  if (onnxruntime_for_tests().empty()) {
    std::printf("Skipped: session_end_test (no library of ONNX Runtime: name one with RUBRICRM_ONNXRUNTIME)\n");
    return kSkipped;
  }
  test_closing();
  test_closing_during_a_step();
  test_steps_of_several_threads();
  test_slots_that_outlive_their_session();
  test_a_fork();
  return failures != 0;
}
