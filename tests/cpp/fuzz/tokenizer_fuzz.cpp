// libFuzzer: any bytes as a text for the demo bundle's tokenizer, and as a file tokenizer.json.
//
// An input's first byte chooses: '{' begins a file, anything else a text, which is what follows the byte. What is found
// for a text: its ids spell it in form C, in any pieces, and hold no added token.
#include <cstdlib>

#include "error.h"
#include "runtime/tokenizer.h"
#include "text/nfc.h"
#include "text/utf8.h"

namespace {

using namespace rubricrm;

constexpr int32_t kFirstAdded = 2043;  // of the demo's added tokens, which are the last ones

const Tokenizer& demo() {
  static const Tokenizer tokenizer = Tokenizer::from_file(RUBRICRM_DEMO_TOKENIZER);
  return tokenizer;
}

void require(bool holds) {
  if (!holds) std::abort();
}

void try_file(std::string_view contents) {
  try {
    const Tokenizer tokenizer = Tokenizer::from_contents(contents, "tokenizer.json");
    for (const char* text : {"The response rhymes.", "e\u0301 \u4e2d\n\n 42"}) {
      tokenizer.decode(tokenizer.encode(text));
      tokenizer.split_control(text);
    }
  } catch (const Error& error) {
    require(error.code() == Code::BUNDLE_INVALID || error.code() == Code::REQUEST_INVALID);
  }
}

void try_text(std::string_view text) {
  TokenIds ids;
  try {
    ids = demo().encode(text);
  } catch (const Error& error) {
    require(error.code() == Code::REQUEST_INVALID && find_invalid_utf8(text) != std::string_view::npos);
    Utf8Stream stream;
    require(find_invalid_utf8(stream.push(text) + stream.finish()) == std::string_view::npos);
    return;
  }
  std::string storage, streamed;
  Utf8Stream decoder;
  for (const int32_t id : ids) {
    require(id >= 0 && id < kFirstAdded);
    streamed += decoder.push(demo().text_bytes(id));
  }
  streamed += decoder.finish();
  require(streamed == normalize_nfc(text, storage) && streamed == demo().decode(ids));
  require(demo().encode(streamed) == ids);
  const auto segments = demo().split_control(text);
  std::string joined;
  for (const Segment& segment : segments) {
    const auto* part = std::get_if<std::string>(&segment);
    joined += part != nullptr ? *part : demo().token_bytes(std::get<int32_t>(segment));
  }
  require(joined == text);
  demo().encode_segments(segments);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  if (input[0] == '{') {
    try_file(input);
  } else {
    try_text(input.substr(1));
  }
  return 0;
}
