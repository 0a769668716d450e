// Who ends without being computed to the end: when its time is up.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "generation/sequence.h"

namespace rubricrm {

// Sequences that may be due before they are written. Not safe from several threads: the engine holds a lock.
class Deadlines {
 public:
  // Watches a sequence, if it has a deadline.
  void add(const std::shared_ptr<Sequence>& sequence);

  // Those whose time is up, maybe some that have ended; they are watched no more.
  std::vector<std::shared_ptr<Sequence>> take_due(Time now = Clock::now());

 private:
  void forget_finished();

  std::multimap<Time, std::shared_ptr<Sequence>> timed_;  // the next deadline first
  size_t most_ = 64;  // that are watched before those that have ended are looked for
};

}  // namespace rubricrm
