// The little that these tests need of a test framework: a failed expectation is printed, and main returns 1.
#pragma once

#include <cstdio>
#include <random>
#include <string>
#include <vector>

inline int failures = 0;

#define EXPECT(condition, ...)                                                    \
  do {                                                                            \
    if (!(condition)) {                                                           \
      ++failures;                                                                 \
      std::printf("%s:%d: %s does not hold; ", __FILE__, __LINE__, #condition);   \
      std::printf(__VA_ARGS__);                                                   \
      std::printf("\n");                                                          \
    }                                                                             \
  } while (false)

// Numbers that are the same in every run.
class Numbers {
 public:
  explicit Numbers(unsigned seed) : engine_(seed) {}

  std::vector<float> floats(size_t count, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> result(count);
    for (float& x : result) x = normal(engine_);
    return result;
  }

  std::vector<uint8_t> bytes(size_t count, int below = 256) {
    std::uniform_int_distribution<int> uniform(0, below - 1);
    std::vector<uint8_t> result(count);
    for (uint8_t& x : result) x = static_cast<uint8_t>(uniform(engine_));
    return result;
  }

  int integer(int from, int to) { return std::uniform_int_distribution<int>(from, to)(engine_); }

 private:
  std::mt19937 engine_;
};
