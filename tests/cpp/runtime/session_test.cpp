// Sessions over ONNX Runtime: the tokens of the Python package, and the same bits however a sequence is computed.
#include <algorithm>

#include "expect_error.h"
#include "runtime/json_document.h"
#include "runtime/onnx_slot.h"
#include "session_of_tests.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

constexpr size_t kCount = 70;
const TokenIds kIds = varied_ids(kCount);

TokenIds greedy(Session& session, const TokenIds& prompt_ids, size_t count, int64_t num_tokens) {
  const Slots slots = session.new_slots(1, static_cast<int64_t>(prompt_ids.size() + count));
  TokenIds found, next = prompt_ids;
  while (found.size() < count) {
    const Logits logits = session.step({{slots[0].get(), next, 1}})[0];
    const RowSummary summary = summarize_row(logits.row(0), logits.vocab_size, num_tokens);
    EXPECT(summary.finite, "after %zu tokens", found.size());
    found.push_back(summary.argmax);
    next = {summary.argmax};
  }
  return found;
}

void test_tokens_of_the_python_package() {
  const Json cases = Json::parse(read_text(fs::path(RUBRICRM_CASES) / "engine/sessions.json"));
  for (const Json& given : cases) {
    const std::string path = given["bundle"], graph = given["graph"];
    const Bundle bundle = Bundle::open(path_of(path));
    const auto session = OnnxSession::open(bundle, options_of(graph));
    EXPECT(session->facts().file == graph, "%s", session->facts().file.c_str());
    const TokenIds expected = given["token_ids"];
    const TokenIds found =
        greedy(*session, given["prompt_ids"], expected.size(), bundle.manifest().tokenizer.num_tokens);
    EXPECT(found == expected, "%s, %s: other tokens, the first is %d", path.c_str(), graph.c_str(), found[0]);
  }
}

// ---- the same bits, where all products are this project's ----

class Exact {
 public:
  explicit Exact(const std::string& bundle)
      : session_(OnnxSession::open(Bundle::open(path_of("tests/cases/engine/" + bundle)), options_of("", 2))),
        vocab_size_(272) {
    EXPECT(session_->is_exact() && session_->takes_any_mix(), "%s", session_->facts().file.c_str());
    every_row_ = run(*session_, *slot(), kIds, kCount);
    EXPECT(every_row_.size() == kCount * vocab_size_, "%zu logits", every_row_.size());
  }

  void test() {
    test_chunks();
    test_rows_are_the_tail_of_all();
    test_any_mix();
    test_borrowing();
    test_copying();
    test_rewinding_and_restoring();
    test_clearing();
    test_threads();
  }

 private:
  std::unique_ptr<Slot> slot(int64_t num_positions = 100) {
    return std::move(session_->new_slots(1, num_positions)[0]);
  }

  bool is_tail(const Rows& rows, size_t end) const {
    return rows.size() <= end * vocab_size_ &&
           are_same(rows.data(), every_row_.data() + end * vocab_size_ - rows.size(), rows.size());
  }

  void test_chunks() {
    Numbers numbers(5);
    for (int trial = 0; trial < 10; ++trial) {
      const auto chunked = slot(numbers.integer(0, 1) == 0 ? 100 : 1000);
      for (size_t start = 0; start < kCount;) {
        const size_t end = std::min(start + static_cast<size_t>(numbers.integer(1, 30)), kCount);
        const Rows rows = run(*session_, *chunked, part_of(kIds, start, end), static_cast<int>(end - start));
        EXPECT(is_tail(rows, end), "chunk from %zu to %zu", start, end);
        start = end;
      }
    }
  }

  void test_rows_are_the_tail_of_all() {
    for (const int rows : {0, 1, 2, 9, static_cast<int>(kCount), 1}) {
      const Rows found = run(*session_, *slot(), kIds, rows);
      EXPECT(found.size() == rows * vocab_size_ && is_tail(found, kCount), "%d rows", rows);
    }
  }

  // Four slots advance by random numbers of tokens per step, in random order.
  void test_any_mix() {
    Numbers numbers(6);
    const Slots slots = session_->new_slots(4, 100);
    std::vector<size_t> done(4, 0);
    while (*std::min_element(done.begin(), done.end()) < kCount) {
      std::vector<Chunk> chunks;
      const size_t first = static_cast<size_t>(numbers.integer(0, 3));
      for (size_t n = 0; n < 4; ++n) {
        const size_t number = (n + first) % 4;
        const size_t count = std::min<size_t>(static_cast<size_t>(numbers.integer(0, 12)), kCount - done[number]);
        if (count == 0) continue;
        const int rows = numbers.integer(0, static_cast<int>(count));
        chunks.push_back({slots[number].get(), part_of(kIds, done[number], done[number] + count), rows});
        done[number] += count;
      }
      if (chunks.empty()) continue;
      const std::vector<Logits> found = session_->step(chunks);
      for (size_t n = 0; n < chunks.size(); ++n) {
        const Rows rows = rows_of(found[n]);
        EXPECT(rows.size() == chunks[n].num_logits * vocab_size_, "%zu logits", rows.size());
        EXPECT(is_tail(rows, static_cast<size_t>(chunks[n].slot->length())), "chunk %zu of a mix", n);
      }
    }
  }

  void test_borrowing() {
    const Slots slots = session_->new_slots(3, 100);
    run(*session_, *slots[2], part_of(kIds, 0, 40));
    for (const size_t length : {40, 17}) {
      const auto borrowed = static_cast<int64_t>(length);
      slots[0]->borrow(*slots[2], borrowed);
      slots[1]->borrow(*slots[2], borrowed);
      EXPECT(slots[0]->length() == borrowed, "%d", static_cast<int>(slots[0]->length()));
      const std::vector<Logits> found = session_->step(
          {{slots[1].get(), part_of(kIds, length, 50), 1}, {slots[0].get(), part_of(kIds, length, kCount), 1}});
      EXPECT(is_tail(rows_of(found[0]), 50) && is_tail(rows_of(found[1]), kCount), "after %zu", length);
    }
    slots[0]->rewind(10);  // into what is borrowed
    EXPECT(is_tail(run(*session_, *slots[0], part_of(kIds, 10, kCount), 60), kCount), "rewound into the base");
    expect_error(Code::RUNTIME_FAILED, "cannot hold 41", [&] { slots[1]->borrow(*slots[2], 41); });
  }

  void test_copying() {
    const Slots slots = session_->new_slots(3, 100);
    run(*session_, *slots[2], part_of(kIds, 0, 20));
    slots[1]->borrow(*slots[2], 20);
    run(*session_, *slots[1], part_of(kIds, 20, 60));
    slots[0]->borrow(*slots[2], 20);
    slots[0]->copy(*slots[1], 55);
    EXPECT(is_tail(run(*session_, *slots[0], part_of(kIds, 55, kCount), 15), kCount), "copied after a base");
    const auto other = slot(300);  // of another memory
    run(*session_, *other, part_of(kIds, 0, 5));
    slots[0]->rewind(0);
    run(*session_, *slots[0], part_of(kIds, 0, 30));
    other->copy(*slots[0], 30);
    EXPECT(is_tail(run(*session_, *other, part_of(kIds, 30, kCount), 40), kCount), "copied from another memory");
    expect_error(Code::RUNTIME_FAILED, "cannot hold 80", [&] { slots[1]->copy(*slots[0], 80); });
  }

  void test_rewinding_and_restoring() {
    const auto first = slot(), other = slot(300);
    run(*session_, *first, part_of(kIds, 0, 40));
    const std::string kept = session_->positions(*first, 40);
    EXPECT(kept.size() == 40 * static_cast<size_t>(session_->position_bytes()), "%zu bytes", kept.size());
    run(*session_, *first, {9, 9, 9});
    first->rewind(40);
    EXPECT(is_tail(run(*session_, *first, part_of(kIds, 40, kCount), 30), kCount), "rewound");
    for (const size_t length : {12, 40, 0, 40, 39}) {
      other->restore({kept.data(), 40}, static_cast<int64_t>(length));
      EXPECT(is_tail(run(*session_, *other, part_of(kIds, length, kCount)), kCount), "restored %zu", length);
    }
    other->rewind(20);
    other->restore({kept.data(), 40}, 40);
    EXPECT(is_tail(run(*session_, *other, part_of(kIds, 40, kCount)), kCount), "restored after a rewind");
    expect_error(Code::RUNTIME_FAILED, "cannot hold 41", [&] { other->restore({kept.data(), 40}, 41); });
  }

  void test_clearing() {
    const Slots slots = session_->new_slots(2, 100);
    for (const auto& slot : slots) run(*session_, *slot, kIds);
    slots[0]->clear();
    const auto& memory = static_cast<OnnxSlot&>(*slots[0]).arena().memory();
    const std::string cleared = memory.read(0, memory.shape().capacity);
    EXPECT(cleared.find_first_not_of('\0') == std::string::npos, "its memory is zero");
    EXPECT(slots[0]->length() == 0 && slots[1]->length() == static_cast<int64_t>(kCount), "its length alone");
    EXPECT(is_tail(run(*session_, *slots[0], kIds, kCount), kCount), "computed again");
    slots[1]->rewind(60);
    EXPECT(is_tail(run(*session_, *slots[1], part_of(kIds, 60, kCount), 10), kCount), "the other one stands");
  }

  void test_threads() {
    const auto single = OnnxSession::open(Bundle::open(path_of("tests/cases/engine/int4")), options_of());
    if (single->facts().kv_type != session_->facts().kv_type) return;
    const Slots slots = single->new_slots(1, 100);
    EXPECT(is_tail(run(*single, *slots[0], kIds, kCount), kCount), "one thread");
  }

  std::unique_ptr<OnnxSession> session_;
  size_t vocab_size_;
  Rows every_row_;
};

// ---- a cache that past and present share ----

void test_a_shared_graph() {
  const auto session =
      OnnxSession::open(Bundle::open(path_of("sdk/python/rubricrm/demo_bundle")), options_of("model.onnx"));
  EXPECT(!session->takes_any_mix() && !session->is_exact() && session->facts().kv_type == "float32", "its facts");
  EXPECT(session->kernels().rfind("onnxruntime (", 0) == 0, "%s", session->kernels().c_str());
  const Slots slots = session->new_slots(3, 100);
  const Rows whole = run(*session, *slots[0], kIds);
  run(*session, *slots[1], part_of(kIds, 0, 40), 0);
  const std::string kept = session->positions(*slots[1], 40);
  slots[2]->restore({kept.data(), 40}, 40);
  const std::vector<Logits> both =
      session->step({{slots[1].get(), part_of(kIds, 40, kCount), 1}, {slots[2].get(), part_of(kIds, 40, kCount), 2}});
  const Rows first = rows_of(both[0]), second = rows_of(both[1]);
  EXPECT(second.size() == 2 * first.size(), "two rows of the second");
  EXPECT(are_same(first.data(), second.data() + first.size(), first.size()), "restored and computed");
  float most = 0;
  for (size_t n = 0; n < whole.size(); ++n) most = std::max(most, std::abs(whole[n] - first[n]));
  EXPECT(most < 1e-3f, "chunks differ by %g", most);
}

// ---- what a step refuses ----

void test_refused_steps() {
  SessionOptions options = options_of();
  options.max_rows = 32;
  const auto session = OnnxSession::open(Bundle::open(path_of("tests/cases/engine/int4")), options);
  const Slots slots = session->new_slots(2, 300);
  Slot* const slot = slots[0].get();
  const auto expect = [&](const std::string& words, const std::vector<Chunk>& chunks) {
    expect_error(Code::RUNTIME_FAILED, words, [&] { session->step(chunks); }, words);
    EXPECT(slot->length() == 0, "%d positions", static_cast<int>(slot->length()));
  };
  expect("logits of 0 of 0 tokens", {{slot, {}, 0}});
  expect("logits of 2 of 1 tokens", {{slot, {5}, 2}});
  expect("logits of -1 of 1 tokens", {{slot, {5}, -1}});
  expect("token 272, expected ids from 0 to 271", {{slot, {5, 272}, 1}});
  expect("token -1, expected", {{slot, {-1}, 1}});
  expect("33 tokens in one step, expected at most 32",
         {{slot, varied_ids(20), 1}, {slots[1].get(), varied_ids(13), 1}});
  expect("two chunks of one slot", {{slot, {5}, 1}, {slot, {5}, 1}});
  EXPECT(session->step({}).empty(), "a step of nothing");
  EXPECT(session->new_slots(0, 10).empty() && slot->capacity() == 512, "%d", static_cast<int>(slot->capacity()));
  run(*session, *slot, varied_ids(32));
}

}  // namespace

int main() {
  if (onnxruntime_for_tests().empty()) {
    std::printf("Skipped: session_test (no library of ONNX Runtime: name one with RUBRICRM_ONNXRUNTIME)\n");
    return kSkipped;
  }
  test_tokens_of_the_python_package();
  Exact("int4").test();
  Exact("int8").test();
  test_a_shared_graph();
  test_refused_steps();
  return failures != 0;
}
