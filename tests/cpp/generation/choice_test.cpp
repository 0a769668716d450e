// Options, stop strings, texts that go in circles, completions and the cost of steps.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "error.h"
#include "expect.h"
#include "generation/completion.h"
#include "generation/options.h"
#include "generation/repetition.h"
#include "generation/sampling.h"
#include "generation/step_cost.h"
#include "generation/stop_strings.h"

using namespace rubricrm;

namespace {

std::string refusal(const GenerationOptions& options) {
  try {
    options.check();
  } catch (const Error& error) {
    EXPECT(error.code() == Code::OPTION_INVALID, "%s", error.what());
    return error.what();
  }
  return "";
}

template <class T>
void check_option(T GenerationOptions::* option, T value, const std::string& expected) {
  GenerationOptions options;
  options.*option = value;
  EXPECT(refusal(options) == expected, "%s; expected %s", refusal(options).c_str(), expected.c_str());
}

void test_options() {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  EXPECT(refusal({}).empty(), "the defaults");
  check_option(&GenerationOptions::temperature, 0.001, "");
  check_option(&GenerationOptions::temperature, 0.0009,
               "temperature must be 0 (greedy) or in [0.001, 100], got 0.0009.");
  check_option(&GenerationOptions::temperature, -0.1, "temperature must be 0 (greedy) or in [0.001, 100], got -0.1.");
  check_option(&GenerationOptions::temperature, 101.0, "temperature must be 0 (greedy) or in [0.001, 100], got 101.0.");
  check_option(&GenerationOptions::temperature, nan, "temperature must be a finite number, got nan.");
  check_option(&GenerationOptions::top_p, 0.0, "top_p must be in (0, 1], got 0.0.");
  check_option(&GenerationOptions::top_p, 1e-5, "");
  check_option(&GenerationOptions::top_p, 1e16, "top_p must be in (0, 1], got 1e+16.");
  check_option(&GenerationOptions::top_p, -1e-5, "top_p must be in (0, 1], got -1e-05.");
  check_option(&GenerationOptions::min_p, 1.5, "min_p must be in [0, 1], got 1.5.");
  check_option(&GenerationOptions::min_p, -infinity, "min_p must be a finite number, got -inf.");
  check_option(&GenerationOptions::top_k, int64_t{-1}, "top_k must be at least 0, got -1.");
  using Number = std::optional<int64_t>;
  check_option(&GenerationOptions::max_new_tokens, Number(0), "max_new_tokens must be at least 1, got 0.");
  check_option(&GenerationOptions::logprobs, Number(20), "");
  check_option(&GenerationOptions::logprobs, Number(21), "logprobs must be 0 to 20, got 21.");
  using Seconds = std::optional<double>;
  check_option(&GenerationOptions::timeout_s, Seconds(0.0), "timeout_s must be greater than 0, got 0.0.");
  using Strings = std::vector<std::string>;
  check_option(&GenerationOptions::stop, Strings{"a", ""},
               "stop must be a list of strings that are not empty, got ['a', ''].");
}

// The text before the first place where a stop string begins.
std::string reference_of(const std::string& text, const std::vector<std::string>& strings) {
  size_t at = text.size();
  for (const std::string& string : strings) at = std::min(at, text.find(string));
  return text.substr(0, at);
}

void test_stop_strings() {
  Numbers numbers(1);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> strings(numbers.integer(0, 3));
    for (std::string& string : strings) {
      for (int length = numbers.integer(1, 4); length > 0; --length) string += "ab"[numbers.integer(0, 1)];
    }
    StopStrings stops(strings);
    std::string whole, returned;
    for (int pieces = numbers.integer(0, 6); pieces > 0; --pieces) {
      std::string piece;
      for (int length = numbers.integer(0, 3); length > 0; --length) piece += "abc"[numbers.integer(0, 2)];
      whole += piece;
      returned += stops.push(piece);
      EXPECT(reference_of(whole, strings).compare(0, returned.size(), returned) == 0, "%s too early", returned.c_str());
    }
    returned += stops.finish();
    const std::string expected = reference_of(whole, strings);
    EXPECT(returned == expected, "'%s' of '%s', expected '%s'", returned.c_str(), whole.c_str(), expected.c_str());
    EXPECT(stops.found().has_value() == (expected.size() < whole.size()), "found in '%s'", whole.c_str());
  }
}

// A token's id is its byte.
TokenTexts byte_texts() {
  static const std::string bytes = [] {
    std::string all;
    for (int n = 0; n < 256; ++n) all += static_cast<char>(n);
    return all;
  }();
  TokenTexts texts;
  texts.num_tokens = 256;
  texts.token_bytes = [](int32_t id) { return id < 256 ? bytes.substr(id, 1) : std::string(); };
  texts.text_bytes = [texts](int32_t id) { return id == 0 ? std::string() : texts.token_bytes(id); };
  return texts;
}

// After how many tokens a text first goes in circles; -1: never.
int64_t circle_at(const std::string& text) {
  const TokenTexts texts = byte_texts();
  RepetitionDetector detector(texts);
  for (size_t n = 0; n < text.size(); ++n) {
    if (detector.push(static_cast<unsigned char>(text[n]))) return static_cast<int64_t>(n) + 1;
  }
  return -1;
}

std::string times(const std::string& text, int count) {
  std::string result;
  while (count-- > 0) result += text;
  return result;
}

void test_repetition() {
  EXPECT(circle_at(times("a", 200)) == 96, "a letter");
  EXPECT(circle_at(times("-", 300)) == 256, "no letter");
  EXPECT(circle_at(times("word and ", 20)) == 96, "a few words");
  EXPECT(circle_at(times(times("x", 99) + "y ", 4)) == 96, "a run within a cycle");
  std::string different, longest;
  for (int n = 0; n < 128; ++n) longest += static_cast<char>('A' + n % 50 + n / 50);
  EXPECT(circle_at(times(longest, 5)) == 4 * 128, "the longest period");
  EXPECT(circle_at(times(longest + "!", 6)) == -1, "a longer one");
  std::string list, gaps;
  for (int n = 1; n < 60; ++n) {
    list += std::to_string(n) + ". The response is good.\n";
    gaps += std::to_string(n * n) + ". The response is good.\n";
  }
  EXPECT(circle_at(list) > 0, "a list that counts");
  EXPECT(circle_at(gaps) == -1, "a list that does not count by 1");
  EXPECT(circle_at(times("\xc3\xa9", 100)) == 96, "letters of two bytes");
}

void test_completion() {
  const TokenTexts texts = byte_texts();
  GenerationOptions options;
  options.stop = {"\xc3\xa9!"};
  Completion completion(texts, options);
  EXPECT(completion.push('a').text == "a", "a letter");
  EXPECT(completion.push(0).text.empty(), "a special token");
  EXPECT(completion.push(0xc3).text.empty() && completion.push(0xa9).text.empty(), "held back");
  EXPECT(completion.push('?').text == "\xc3\xa9?", "let go");
  EXPECT(completion.push(0xc3).reason == FinishReason::NONE && completion.push(0xa9).text.empty(), "held back again");
  EXPECT(completion.push('!').reason == FinishReason::STOP, "the stop string");
  EXPECT(completion.finish(true).found_stop, "the end");
  for (bool is_whole : {true, false}) {
    Completion half(texts, {});
    EXPECT(half.push(0xe2).text.empty(), "a third of a character");
    EXPECT(half.finish(is_whole).text == (is_whole ? "\xef\xbf\xbd" : ""), "half a character");
  }
}

void test_step_cost() {
  const StepCost cost({{4, 2.0}, {1, 1.0}, {3, 2.0}, {6, 4.0}});
  const std::pair<int64_t, double> expected[] = {{1, 1}, {2, 1.5}, {3, 2}, {4, 2}, {5, 3}, {6, 4}, {8, 6}, {70, 68}};
  for (const auto& [rows, seconds] : expected) EXPECT(cost.seconds(rows) == seconds, "%d rows", static_cast<int>(rows));
  EXPECT(StepCost({{1, 2.0}}).seconds(9) == 2.0, "one row");
  EXPECT(StepCost({{1, 2.0}, {2, 1.0}}).seconds(9) == 1.0, "never cheaper");
  EXPECT(parse_step_cost(step_cost_text(cost)).measured() == cost.measured(), "%s", step_cost_text(cost).c_str());
  for (const char* text : {"", "\xff", "[1]", "null", "{\"1\": \"x\"}", "{\"2\": 1}", "{\"1\": NaN}", "{\"1\": null}",
                           "{\"a\": 1}", "{\"1\": 0}", "{\"0\": 1, \"1\": 1}", "{\"1\": [[[1]]]}", "{\"1\": 1e999}"}) {
    try {
      parse_step_cost(text);
      EXPECT(false, "%s is a cost", text);
    } catch (const std::runtime_error&) {
    }
  }
  std::vector<int64_t> runs;
  const StepCost measured = measure_step_cost([&](int64_t rows) { runs.push_back(rows); });
  EXPECT(runs.size() == 20 && *std::max_element(runs.begin(), runs.end()) == 8, "%zu runs", runs.size());
  EXPECT(measured.measured().size() == 6, "%zu measured", measured.measured().size());
}

void test_largest() {
  Numbers numbers(2);
  for (int count = 1; count < 3000; count += 37) {
    std::vector<float> row = numbers.floats(count);
    for (float& value : row) value = std::round(value * 2);
    const auto expected = std::max_element(row.begin(), row.end()) - row.begin();
    EXPECT(largest(row.data(), count) == expected, "of %d", count);
  }
}

}  // namespace

int main() {
  test_options();
  test_stop_strings();
  test_repetition();
  test_completion();
  test_step_cost();
  test_largest();
  return failures != 0;
}
