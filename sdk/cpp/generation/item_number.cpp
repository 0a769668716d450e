#include "generation/item_number.h"

#include <algorithm>

namespace rubricrm {
namespace {

constexpr int kMost = 99;

bool begins_with(const std::string& text, const std::string& begun) {
  return text.compare(0, begun.size(), begun) == 0;
}

bool are_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return '0' <= c && c <= '9'; });
}

}  // namespace

ItemNumbers::ItemNumbers(const TokenTexts& texts) : texts_(texts) {
  for (int number = 0; number <= kMost; ++number) {
    spelled_.push_back(texts.encode(std::to_string(number)));
    for (int32_t token_id : spelled_.back()) {
      const std::string text = texts.token_bytes(token_id);
      if (are_digits(text)) digits_.emplace(token_id, text);
    }
  }
}

const std::string* ItemNumbers::digits(int32_t token_id) const {
  const auto found = digits_.find(token_id);
  return found == digits_.end() ? nullptr : &found->second;
}

const TokenIds& ItemNumbers::spelled(int64_t number) const {
  static const TokenIds none;
  return 0 <= number && number <= kMost ? spelled_[number] : none;
}

TokenIds ItemNumbers::rest(int64_t number, const std::string& begun) const {
  const TokenIds& ids = spelled(number);
  std::string written;
  for (size_t length = 1; length < ids.size(); ++length) {
    if (const std::string* text = digits(ids[length - 1])) written += *text;
    if (written == begun) return TokenIds(ids.begin() + static_cast<std::ptrdiff_t>(length), ids.end());
  }
  return {};
}

bool ItemNumbers::is_mark(int32_t token_id) const {
  const std::string text = texts_.token_bytes(token_id);
  return !text.empty() && (text[0] == '.' || text[0] == ')');
}

void Reading::begin_list() {
  digits_.clear();
  item_ = 0;
}

int32_t Reading::read(int32_t token_id) {
  int32_t symbol = token_id;
  if (const std::string* digits = numbers_->digits(token_id)) {
    const bool goes_on = !digits_.empty();
    digits_ += *digits;
    if (!begins_with(std::to_string(item_ + 1), digits_)) {
      digits_.clear();
    } else if (goes_on) {
      return -1;
    } else {
      symbol = kNumber;
    }
  } else if (!digits_.empty()) {
    if (digits_ == std::to_string(item_ + 1) && numbers_->is_mark(token_id)) ++item_;
    digits_.clear();
  }
  context_ = extended(context_, symbol);
  return symbol;
}

TokenIds Reading::rest() const { return digits_.empty() ? TokenIds{} : numbers_->rest(item_ + 1, digits_); }

}  // namespace rubricrm
