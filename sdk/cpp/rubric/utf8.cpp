#include "rubric/utf8.h"

#include "text/utf8.h"

namespace rubricrm::rubric {
namespace {

constexpr char32_t kReplacement = U'\ufffd';

}  // namespace

std::string to_utf8(std::u32string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (const char32_t c : text) append_character(bytes, c);
  return bytes;
}

std::u32string Utf8Decoder::feed(std::string_view bytes) {
  std::string joined;
  if (!begun_.empty()) {
    joined = begun_.append(bytes);
    begun_.clear();
    bytes = joined;
  }
  std::u32string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Utf8Start start = utf8_start(bytes);
    if (start.kind == Utf8Start::UNFINISHED) {
      begun_ = bytes;
      break;
    }
    const char* at = bytes.data();
    text += start.kind == Utf8Start::WHOLE ? next_character(at) : kReplacement;
    bytes.remove_prefix(static_cast<size_t>(start.length));
  }
  return text;
}

std::u32string Utf8Decoder::finish() {
  const bool is_cut = !begun_.empty();
  begun_.clear();
  return std::u32string(is_cut ? 1 : 0, kReplacement);
}

std::u32string from_utf8(std::string_view bytes) {
  Utf8Decoder decoder;
  std::u32string text = decoder.feed(bytes);
  return text += decoder.finish();
}

}  // namespace rubricrm::rubric
