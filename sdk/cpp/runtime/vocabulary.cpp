#include "runtime/vocabulary.h"

#include <algorithm>
#include <cstring>

namespace rubricrm {

uint32_t Vocabulary::hash(std::string_view text) {
  uint64_t state = text.size() * 0x9E3779B97F4A7C15u;
  while (!text.empty()) {
    uint64_t word = 0;
    const size_t taken = std::min<size_t>(text.size(), sizeof word);
    std::memcpy(&word, text.data(), taken);
    state = (state ^ word) * 0x9E3779B97F4A7C15u;
    state ^= state >> 32;
    text.remove_prefix(taken);
  }
  return static_cast<uint32_t>(state);
}

// The slot that holds a text, or the empty one where it belongs.
uint32_t Vocabulary::find_slot(std::string_view text, uint32_t hash) const {
  const auto mask = static_cast<uint32_t>(slots_.size() - 1);
  uint32_t at = hash & mask;
  while (slots_[at].token != kEmpty && (slots_[at].hash != hash || this->text(tokens_[slots_[at].token]) != text)) {
    at = (at + 1) & mask;
  }
  return at;
}

Vocabulary::Vocabulary(size_t expected_tokens) {
  size_t size = 64;
  while (3 * size < 4 * expected_tokens) size *= 2;
  resize_slots(size);
  tokens_.reserve(expected_tokens);
  texts_.reserve(8 * expected_tokens);
}

void Vocabulary::resize_slots(size_t size) {
  std::vector<Slot> old(size);
  old.swap(slots_);
  const auto mask = static_cast<uint32_t>(slots_.size() - 1);
  for (const Slot& slot : old) {
    if (slot.token == kEmpty) continue;
    uint32_t at = slot.hash & mask;
    while (slots_[at].token != kEmpty) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

void Vocabulary::add(std::string_view text, int32_t id) {
  if (4 * (tokens_.size() + 1) > 3 * slots_.size()) resize_slots(std::max<size_t>(64, 2 * slots_.size()));
  const uint32_t code = hash(text);
  Slot& slot = slots_[find_slot(text, code)];
  if (slot.token != kEmpty) {
    tokens_[slot.token].id = id;
    return;
  }
  slot = {code, static_cast<uint32_t>(tokens_.size())};
  tokens_.push_back({static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(text.size()), id});
  texts_ += text;
}

bool Vocabulary::finish() {
  int32_t largest = -1;
  for (const Token& token : tokens_) largest = std::max(largest, token.id);
  token_of_id_.assign(static_cast<size_t>(largest + 1), kEmpty);
  bool is_unique = true;
  for (const Token& token : tokens_) {
    uint32_t& entry = token_of_id_[static_cast<size_t>(token.id)];
    is_unique = is_unique && entry == kEmpty;
    entry = static_cast<uint32_t>(&token - tokens_.data());
  }
  texts_.shrink_to_fit();
  tokens_.shrink_to_fit();
  return is_unique;
}

uint32_t Vocabulary::prepare(std::string_view text) const {
  const uint32_t code = hash(text);
  if (!slots_.empty()) __builtin_prefetch(&slots_[code & (slots_.size() - 1)]);
  return code;
}

int32_t Vocabulary::find(std::string_view text, uint32_t prepared) const {
  if (slots_.empty()) return -1;
  const Slot& slot = slots_[find_slot(text, prepared)];
  return slot.token == kEmpty ? -1 : tokens_[slot.token].id;
}

std::string_view Vocabulary::text(int32_t id) const {
  if (!has(id)) return {};
  return text(tokens_[token_of_id_[static_cast<size_t>(id)]]);
}

}  // namespace rubricrm
