// Encodes and decodes for tests in other languages: encode_stream TOKENIZER_JSON < strings > ids
//
// A string is its length, an unsigned number of 32 bits in the machine's order, and its bytes. Its answer is the number
// of its ids and the ids, in 32 bits each; -1 for a text that is refused.
#include <cstdio>
#include <string>
#include <vector>

#include "error.h"
#include "runtime/tokenizer.h"

namespace {

void write(const std::vector<int32_t>& numbers) {
  std::fwrite(numbers.data(), sizeof(int32_t), numbers.size(), stdout);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: encode_stream TOKENIZER_JSON < strings > ids\n");
    return 2;
  }
  try {
    const rubricrm::Tokenizer tokenizer = rubricrm::Tokenizer::from_file(arguments[1]);
    uint32_t length;
    std::string text;
    while (std::fread(&length, sizeof length, 1, stdin) == 1) {
      text.resize(length);
      if (std::fread(text.data(), 1, length, stdin) != length) return 2;
      try {
        const rubricrm::TokenIds ids = tokenizer.encode(text);
        write({static_cast<int32_t>(ids.size())});
        write(ids);
      } catch (const rubricrm::Error&) {
        write({-1});
      }
    }
  } catch (const rubricrm::Error& error) {
    std::fprintf(stderr, "%s: %s\n", rubricrm::code_name(error.code()), error.what());
    return 1;
  }
  return 0;
}
