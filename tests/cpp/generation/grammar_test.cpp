// Grammars: what lying tables are refused for, masks of odd sizes, the hold on a sequence.
#include "generation/grammar.h"

#include <functional>

#include "error.h"
#include "expect.h"
#include "generation/constraint.h"
#include "generation/decision.h"

using namespace rubricrm;

namespace {

constexpr int16_t kNo = -32768;

// "a" (2), then "b" (3) or "bb" (4), any number of times; 0 is never a token of it, 1 and 5 end it.
GrammarTables tables() {
  GrammarTables made;
  made.token_class = {0, 1, 2, 3, 4, 1};
  made.num_rows = 4;
  made.num_classes = 5;
  made.steps = {kNo, kNo,   kNo, kNo, kNo,   // the end
                kNo, kNo,   1,   kNo, kNo,   // the start: a
                kNo, kNo,   kNo, 1,   1,     // after a
                kNo, 32767, -1,  kNo, kNo};  // after b: a again, or the end
  made.row = {0, 1, 2, 3};
  made.shortest = {0, 3, 2, 1};
  made.forced = {-1, 2, -1, 2};
  return made;
}

Grammar grammar() { return Grammar(tables(), 6, {5, 1}, "g.npz"); }

void check_refused(const char* words, const std::function<void(GrammarTables&)>& lie) {
  GrammarTables lying = tables();
  lie(lying);
  try {
    Grammar(lying, 6, {1, 5}, "g.npz");
    EXPECT(false, "nothing was refused: %s", words);
  } catch (const Error& error) {
    EXPECT(error.code() == Code::BUNDLE_INVALID, "%s", error.what());
    const std::string message = error.what();
    EXPECT(message.find("g.npz: ") == 0 && message.find(words) != std::string::npos, "%s", error.what());
  }
}

void test_lies() {
  check_refused("is for 5 tokens", [](GrammarTables& t) { t.token_class.pop_back(); });
  check_refused("3 shortest ways", [](GrammarTables& t) { t.shortest.pop_back(); });
  check_refused("3 forced tokens", [](GrammarTables& t) { t.forced.pop_back(); });
  check_refused("has 0 rows", [](GrammarTables& t) { t.row = {}, t.shortest = {}, t.forced = {}; });
  check_refused("has 32767 rows",
                [](GrammarTables& t) { t.row.resize(32767), t.shortest.resize(32767), t.forced.resize(32767); });
  check_refused("names a class", [](GrammarTables& t) { t.token_class[0] = 5; });
  check_refused("names a class", [](GrammarTables& t) { t.row[2] = 4; });
  check_refused("names a class", [](GrammarTables& t) { t.num_rows = 3; });
  check_refused("names a class", [](GrammarTables& t) { t.steps.pop_back(); });
  check_refused("names a class", [](GrammarTables& t) { t.num_rows = 20, t.num_classes = 1; });
  check_refused("at other tokens than the stop ids [1, 5]", [](GrammarTables& t) { t.token_class[2] = 1; });
  check_refused("at other tokens", [](GrammarTables& t) { t.token_class[1] = 0; });
  check_refused("leads on where nothing", [](GrammarTables& t) { t.steps[5] = 1; });
  check_refused("leads on where nothing", [](GrammarTables& t) { t.steps[2] = 1; });
  check_refused("leads to a state", [](GrammarTables& t) { t.steps[7] = 9; });
  check_refused("leads to a state", [](GrammarTables& t) { t.steps[7] = -9; });
  check_refused("states shortest ways", [](GrammarTables& t) { t.shortest[1] = 2; });
  check_refused("states shortest ways", [](GrammarTables& t) { t.shortest[0] = 1; });
  check_refused("states shortest ways",
                [](GrammarTables& t) { t.steps[16] = kNo, t.shortest = {0, 32767, 32767, 32767}; });
  check_refused("does not exist", [](GrammarTables& t) { t.forced[1] = 6; });
  check_refused("does not exist", [](GrammarTables& t) { t.forced[1] = -2; });
  check_refused("cannot follow", [](GrammarTables& t) { t.forced[1] = 3; });
  check_refused("cannot follow", [](GrammarTables& t) { t.forced[3] = 1; });
  check_refused("cannot follow", [](GrammarTables& t) { t.forced[0] = 2; });
}

void test_walks() {
  const Grammar grammar = ::grammar();
  EXPECT(grammar.next(1, 2) == 2 && grammar.next(1, 3) == Grammar::kRefused, "the start");
  EXPECT(grammar.next(3, 1) == Grammar::kEnd && grammar.next(3, 5) == Grammar::kEnd, "the end");
  EXPECT(grammar.is_allowed(1, 2, 3) && !grammar.is_allowed(1, 2, 2), "a budget");
  EXPECT(grammar.forced(1, 9) == TokenIds({2}), "what must follow");
  EXPECT(grammar.forced(3, 9).empty() && grammar.forced(3, 9, true) == TokenIds({2}), "past an end");
  int32_t word = -1;
  grammar.write_mask(3, 9, &word);
  EXPECT(word == (1 << 1 | 1 << 2 | 1 << 5), "%x", word);
  grammar.write_mask(3, 1, &word);
  EXPECT(word == (1 << 1 | 1 << 5), "%x", word);
  std::vector<int32_t> ids;
  grammar.list_allowed(2, 9, ids);
  EXPECT(ids == std::vector<int32_t>({3, 4}), "%zu", ids.size());
}

// Masks whose last word is not full, of every size up to 70 tokens.
void test_masks_of_odd_sizes() {
  for (int size = 6; size < 70; ++size) {
    GrammarTables wide = tables();
    wide.token_class.resize(size, 2);
    const Grammar grammar(wide, size, {1, 5}, "g.npz");
    std::vector<int32_t> words(grammar.mask_words() + 1, 0x5555);
    grammar.write_mask(1, 99, words.data());
    for (int n = 0; n < 32 * static_cast<int>(grammar.mask_words()); ++n) {
      const bool is_set = static_cast<uint32_t>(words[n / 32]) >> n % 32 & 1;
      EXPECT(is_set == (n < size && grammar.is_allowed(1, n, 99)), "%d of %d", n, size);
    }
    EXPECT(words.back() == 0x5555, "a word too many of %d", size);
  }
}

void test_the_hold() {
  const Grammar grammar = ::grammar();
  EXPECT(constrain(&grammar, 2) == nullptr && constrain(nullptr, 99) == nullptr, "no constraint");
  const auto constraint = constrain(&grammar, 3);
  const float logits[] = {9, 1, 2, 3, 4, 0};
  Sampler sampler;
  const GenerationOptions greedy;
  int64_t left = 3;
  TokenIds tokens;
  while (constraint->state() != Grammar::kEnd) {
    const Decision decision{logits, 6, 6, 0, 0, tokens.size(), left--};
    tokens.push_back(next_token(decision, greedy, constraint.get(), sampler));
  }
  EXPECT(tokens == TokenIds({2, 4, 1}), "the best of what may follow, and a whole end");
  EXPECT(constraint->overrules().count == 3, "each was overruled");
  EXPECT(constraint->overrules().probability > 2.9 && constraint->overrules().probability < 3, "what was refused");
}

}  // namespace

int main() {
  test_lies();
  test_walks();
  test_masks_of_odd_sizes();
  test_the_hold();
  return failures != 0;
}
