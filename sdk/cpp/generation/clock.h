// The one clock of deadlines and timings.
#pragma once

#include <chrono>

namespace rubricrm {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

}  // namespace rubricrm
