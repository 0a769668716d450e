#include "runtime/word_encoder.h"

#include "runtime/byte_alphabet.h"

namespace rubricrm {
namespace {

// Each has a cache of 1 MB.
constexpr size_t kMaxWaiting = 8;

}  // namespace

void WordEncoder::append(std::string_view word, TokenIds& ids) {
  if (!WordCache::takes(word)) return append_unknown(word, ids);
  const WordCache::Key key = WordCache::key(word);
  if (cache_.append(key, ids)) return;
  const size_t begin = ids.size();
  append_unknown(word, ids);
  cache_.keep(key, ids.data() + begin, ids.size() - begin);
}

void WordEncoder::append_unknown(std::string_view word, TokenIds& ids) {
  if (file_.ignores_merges) {
    spelling_.clear();
    for (const char byte : word) spelling_ += byte_character(static_cast<uint8_t>(byte));
    const int32_t id = file_.vocabulary.find(spelling_);
    if (id >= 0 && !file_.is_added[static_cast<size_t>(id)]) return ids.push_back(id);
  }
  encoding_.append(word, file_.byte_ids, file_.merges, ids);
}

std::unique_ptr<WordEncoder> WordEncoderPool::take() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!waiting_.empty()) {
      std::unique_ptr<WordEncoder> encoder = std::move(waiting_.back());
      waiting_.pop_back();
      return encoder;
    }
  }
  return std::make_unique<WordEncoder>(file_);
}

void WordEncoderPool::give_back(std::unique_ptr<WordEncoder> encoder) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_.size() < kMaxWaiting) waiting_.push_back(std::move(encoder));
}

}  // namespace rubricrm
