// Drafting: statistics against a reference, the bound of a table, its files, the numbers of items.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <thread>

#include "expect.h"
#include "generation/draft_desk.h"
#include "generation/phrase_file.h"

using namespace rubricrm;

namespace {

const std::string kSha256(64, 'a');
const std::string kRubric = "1. The response rhymes. [Hard Rule]\n2. The response is short. [Principle]\n";

// A token's id is its byte; more ids exist, of no bytes.
const TokenTexts& texts() {
  static const TokenTexts made = [] {
    TokenTexts of;
    of.num_tokens = 10'000;
    of.token_bytes = [](int32_t id) {
      static const std::string digits = "0123456789.)";
      const size_t at = id < 256 ? digits.find(static_cast<char>(id)) : std::string::npos;
      return at == std::string::npos ? std::string() : digits.substr(at, 1);
    };
    of.text_bytes = of.token_bytes;
    of.encode = [](std::string_view text) { return TokenIds(text.begin(), text.end()); };
    return of;
  }();
  return made;
}

const ItemNumbers& numbers() {
  static const ItemNumbers made(texts());
  return made;
}

TokenIds ids(const std::string& text) { return TokenIds(text.begin(), text.end()); }

// What followed each context, in a map.
void test_statistics() {
  Numbers random(3);
  for (int most_hits : {3, 15}) {
    NextToken next(most_hits);
    std::map<Context, NextToken::Entry> expected;
    Context context = kEmptyContext;
    for (int n = 0; n < 20000; ++n) {
      const int32_t symbol = random.integer(0, n % 1000 < 500 ? 3 : 200);
      next.count(context, symbol);
      for (int length = 3; length > 0; --length) {
        const Context key = context & ((Context{1} << length * kSymbolBits) - 1);
        if (key >> (length - 1) * kSymbolBits == 0) continue;
        const auto [found, is_new] = expected.emplace(key, NextToken::Entry{key, symbol, 1, 1});
        if (is_new) continue;
        NextToken::Entry& entry = found->second;
        const bool is_hit = entry.symbol == symbol;
        ++entry.occurrences;
        if (is_hit) {
          ++entry.hits;
        } else if (--entry.hits == 0) {
          entry.symbol = symbol;
          entry.hits = 1;
        }
        if (entry.occurrences > most_hits) {
          entry.hits = (entry.hits + 1) / 2;
          entry.occurrences /= 2;
        }
        if (is_hit) break;
      }
      context = extended(context, symbol);
    }
    EXPECT(next.entries().size() == expected.size(), "%zu and %zu", next.entries().size(), expected.size());
    for (const auto& [key, entry] : expected) {
      const NextToken::Entry* found = next.find(key);
      EXPECT(found != nullptr && found->symbol == entry.symbol && found->hits == entry.hits &&
                 found->occurrences == entry.occurrences,
             "context %llx", static_cast<unsigned long long>(key));
    }
  }
  EXPECT(extended(extended(kEmptyContext, 0), 7) == (Context{1} << kSymbolBits | 8), "symbols");
  EXPECT(extended(5, kMostSymbols) == kEmptyContext, "a token id too large");
}

void test_bound() {
  Numbers random(4);
  for (int most : {4, 5, 20, 60}) {
    PhraseTable table(numbers(), most);
    for (int text = 0; text < 40; ++text) {
      std::string letters;
      for (int n = 0; n < 40; ++n) letters += "ab1. "[random.integer(0, 4)];
      table.learn(ids(letters));
      EXPECT(static_cast<int>(table.entries().size()) <= most, "%zu above %d", table.entries().size(), most);
    }
  }
}

void test_drafts() {
  PhraseTable table(numbers());
  for (int n = 0; n < 3; ++n) table.learn(ids(kRubric));
  Drafter drafter(ids("Write. "), numbers(), &table);
  for (int32_t token : ids("1. The res")) drafter.push(token);
  const Draft draft = drafter.propose(7);
  EXPECT(draft.token_ids == ids("ponse "), "%zu tokens, not those before which words differ", draft.token_ids.size());
  EXPECT(drafter.propose(0).size() == 0, "no row is left");
  for (int32_t token : ids("ponse is short. [Principle]\n")) drafter.push(token);
  EXPECT(drafter.propose(2).token_ids == ids("2."), "the next number");
  DraftDesk desk(StepCost({{1, 1.0}, {8, 1.1}}), numbers(), table);
  const auto drafts = desk.propose({{&drafter, nullptr, 99}, {nullptr, nullptr, 99}, {&drafter, nullptr, 1}}, 20, 0);
  EXPECT(drafts.size() == 3 && !drafts[0].token_ids.empty() && drafts[0].price > 0, "rows that cost little");
  EXPECT(drafts[1].token_ids.empty() && drafts[2].token_ids.empty(), "no drafter, and no token left");
  DraftDesk dear(StepCost({{1, 1.0}, {8, 80.0}}), numbers(), table);
  EXPECT(dear.propose({{&drafter, nullptr, 99}}, 20, 0)[0].token_ids.empty(), "rows that cost too much");
}

bool same(const std::vector<NextToken::Entry>& a, const std::vector<NextToken::Entry>& b) {
  if (a.size() != b.size()) return false;
  for (size_t n = 0; n < a.size(); ++n) {
    const bool equal = a[n].context == b[n].context && a[n].symbol == b[n].symbol && a[n].hits == b[n].hits &&
                       a[n].occurrences == b[n].occurrences;
    if (!equal) return false;
  }
  return true;
}

void test_files() {
  const fs::path directory = fs::temp_directory_path() / ("rubricrm-draft-test-" + std::to_string(getpid()));
  const fs::path path = directory / "below" / "phrases.safetensors";
  EXPECT(load_phrases(path, numbers(), kSha256).warning.empty(), "no file, no warning");
  PhraseTable table(numbers());
  table.learn(ids(kRubric));
  save_phrases(table, path, kSha256);
  const LoadedPhrases loaded = load_phrases(path, numbers(), kSha256);
  EXPECT(loaded.warning.empty() && same(loaded.table->entries(), table.entries()), "%s", loaded.warning.c_str());
  EXPECT(load_phrases(path, numbers(), kSha256, 40).table->entries().size() <= 40, "a smaller bound");
  const std::string other = load_phrases(path, numbers(), std::string(64, 'b')).warning;
  EXPECT(other == path.string() +
                      ": its phrases are not used (it is of another tokenizer). `rubricrm phrases --clear` "
                      "removes it.",
         "%s", other.c_str());
  const std::string contents = read_file(path);
  Numbers random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = contents;
    const int at = random.integer(0, static_cast<int>(contents.size()) - 1);
    if (round % 2 == 0) {
      damaged.resize(at);
    } else {
      damaged[at] = static_cast<char>(damaged[at] ^ random.integer(1, 255));
    }
    std::ofstream(path, std::ios::binary) << damaged;
    const LoadedPhrases found = load_phrases(path, numbers(), kSha256);
    const bool is_unused = found.table->entries().empty() && !found.warning.empty();
    EXPECT(is_unused || same(found.table->entries(), table.entries()), "damage at %d", at);
  }
  EXPECT(!load_phrases(directory, numbers(), kSha256).warning.empty(), "a directory");
  const fs::path pipe = directory / "pipe";
  EXPECT(mkfifo(pipe.c_str(), 0600) == 0, "no pipe could be made");
  EXPECT(!load_phrases(pipe, numbers(), kSha256).warning.empty(), "a pipe is not waited for");
  EXPECT(!load_phrases("/dev/zero", numbers(), kSha256).warning.empty(), "a device is not read for ever");
  bool was_refused = false;
  try {
    save_phrases(table, pipe, kSha256);
  } catch (const FileError&) {
    was_refused = true;
  }
  EXPECT(was_refused && fs::is_fifo(pipe), "the pipe was replaced");
  fs::remove_all(directory);
}

void test_threads() {
  PhraseTable table(numbers(), 200);
  std::vector<std::thread> threads;
  for (int seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&table, seed] {
      Drafter drafter(ids(kRubric), numbers(), &table);
      for (int turn = 0; turn < 100; ++turn) {
        table.learn(ids(kRubric + static_cast<char>('A' + (seed * 31 + turn) % 26)));
        drafter.propose(9);
        if (turn % 50 == seed) table.assign({});
        if (turn % 20 == seed) table.entries();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(table.entries().size() <= 200, "%zu", table.entries().size());
}

}  // namespace

int main() {
  test_statistics();
  test_bound();
  test_drafts();
  test_files();
  test_threads();
  return failures != 0;
}
