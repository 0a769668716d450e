// The core beside an engine of your own: request -> ids, grammar -> masks, ids -> text and criteria. It needs a library
// that was built with RUBRICRM_RUNTIME=OFF, or any other. core BUNDLE REQUEST
//
// The engine here is a stand-in: of the tokens that may follow, it takes one by a rule of its own.
#include <cstdint>
#include <iostream>
#include <vector>

#include <rubricrm.hpp>

namespace {

// What an engine does with a mask: choose among what is allowed.
class StandIn {
 public:
  explicit StandIn(const rubricrm::Ids& prompt_ids) : state_(static_cast<uint32_t>(prompt_ids.size())) {}

  int32_t next_token(const std::vector<uint32_t>& mask) {
    std::vector<int32_t> allowed;
    for (size_t id = 0; id < mask.size() * 32; ++id) {
      if (mask[id / 32] >> id % 32 & 1) allowed.push_back(static_cast<int32_t>(id));
    }
    state_ = state_ * 1664525u + 1013904223u;
    return allowed.at(state_ % allowed.size());
  }

 private:
  uint32_t state_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: " << argv[0] << " BUNDLE REQUEST\n";
    return 2;
  }
  try {
    const rubricrm::Prompt prompt(argv[1]);
    const rubricrm_grammar* grammar = prompt.grammar();
    if (grammar == nullptr) {
      std::cerr << "the bundle holds no grammar\n";
      return 1;
    }
    StandIn engine(prompt.encode_request(argv[2]));
    rubricrm::Reader reader(prompt.get());
    std::vector<uint32_t> mask((prompt.facts().num_tokens + 31) / 32);
    int32_t state = RUBRICRM_GRAMMAR_START;
    for (uint32_t tokens_left = 200; reader.reason() == RUBRICRM_UNFINISHED; --tokens_left) {
      rubricrm_error error;
      rubricrm::check(rubricrm_grammar_mask(grammar, state, tokens_left, mask.data(), mask.size(), &error), error);
      const int32_t id = engine.next_token(mask);
      state = rubricrm_grammar_next(grammar, state, id);
      std::cout << rubricrm::view(reader.push(id).text);
    }
    std::cout << rubricrm::view(reader.finish().text) << "\n";
    std::cout << rubricrm_rubric_json(reader.rubric()) << "\n";
    return reader.rubric()->num_issues == 0 ? 0 : 1;  // it was held to the form
  } catch (const rubricrm::Failure& failure) {
    std::cerr << failure.what() << "\n";
    return 1;
  }
}
