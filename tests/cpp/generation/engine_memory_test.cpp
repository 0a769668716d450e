// Memory that runs out in a step, at each allocation once: what runs fails and says so, and the engine serves the next.
#include "expect.h"
#include "failing_memory.h"
#include "generation/engine_case.h"

using namespace rubricrm;

namespace {

GenerationOptions few() {
  GenerationOptions options;
  options.max_new_tokens = 6;
  return options;
}

// Runs two requests in two slots, with a third that waits, while an allocation fails. Returns whether one did.
bool serves_on_after(long allocation, long failing, bool any_mix) {
  EngineOptions options;
  options.max_concurrency = 2;
  FakeOptions fake;
  fake.takes_any_mix = any_mix;
  EngineCase one(options, fake);
  std::vector<std::shared_ptr<Sequence>> sequences;
  for (int i = 0; i < 3; ++i) sequences.push_back(one.submit(ids_from(i, 20), few()));
  num_left = allocation;
  num_failing = failing;
  for (const auto& sequence : sequences) one.engine->wait(*sequence, [] { return false; });
  const bool has_failed = num_failing < failing;
  num_left = num_failing = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Answer answer = answer_of(*sequences[i]);
    EXPECT(sequences[i]->is_finished(), "allocation %ld: a request never ends", allocation);
    const auto error = sequences[i]->error();
    if (error) {
      const bool says_so = std::string(error->what()).find("memory ran out") != std::string::npos;
      EXPECT(error->code() == Code::RUNTIME_FAILED && says_so, "allocation %ld: %s", allocation, error->what());
    } else {
      EXPECT(answer == alone(ids_from(static_cast<int>(i), 20), few()), "allocation %ld", allocation);
    }
  }
  // Both slots serve again, at a time: their answers are those of a new engine.
  std::vector<std::shared_ptr<Sequence>> later;
  for (int i = 0; i < 2; ++i) later.push_back(one.submit(ids_from(i, 20), few()));
  one.engine->step();
  for (int i = 0; i < 2; ++i) {
    EXPECT(later[i]->state() != State::WAITING, "allocation %ld: a slot is lost", allocation);
  }
  for (const auto& sequence : later) one.engine->wait(*sequence, [] { return false; });
  for (int i = 0; i < 2; ++i) {
    EXPECT(answer_of(*later[i]) == alone(ids_from(i, 20), few()), "allocation %ld", allocation);
  }
  return has_failed;
}

}  // namespace

int main() {
  for (const bool any_mix : {true, false}) {
    for (const long failing : {1L, 4L}) {
      long allocation = 0;
      while (allocation < 100000 && serves_on_after(allocation, failing, any_mix)) ++allocation;
      EXPECT(allocation > 20, "only %ld allocations were tried", allocation);
    }
  }
  return failures != 0;
}
