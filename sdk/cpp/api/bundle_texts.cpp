#include "api/bundle_texts.h"

#include <utility>

#include "error.h"
#include "generation/grammar_file.h"

namespace rubricrm {

BundleTexts::BundleTexts(Bundle bundle)
    : bundle_(std::move(bundle)),
      tokenizer_(Tokenizer::from_file(bundle_.file(manifest().tokenizer.file).string())),
      conversation_(manifest().chat, tokenizer_) {
  token_texts_.num_tokens = tokenizer_.num_tokens();
  token_texts_.token_bytes = [this](int32_t id) { return tokenizer_.token_bytes(id); };
  token_texts_.text_bytes = [this](int32_t id) { return tokenizer_.text_bytes(id); };
  token_texts_.encode = [this](std::string_view text) { return tokenizer_.encode(text); };
  manifest().prompt();  // which every bundle has
  for (const auto& [name, facts] : manifest().prompts) add_prompt(name, facts);
  show();
}

void BundleTexts::add_prompt(const std::string& name, const PromptFacts& facts) {
  std::unique_ptr<const Grammar> grammar;
  if (facts.grammar) {
    const int64_t num_tokens = manifest().tokenizer.num_tokens;
    grammar = std::make_unique<const Grammar>(
        load_grammar(bundle_.file(*facts.grammar), num_tokens, facts.stop_ids));
  }
  auto stop_ids = std::make_unique<const IdsView>(facts.stop_ids, false);
  Named named{name, Prompt(name, facts, manifest().chat, tokenizer_), std::move(stop_ids), std::move(grammar)};
  const auto added = named_.emplace(name, std::move(named)).first;
  names_.push_back(added->first.c_str());
}

void BundleTexts::show() {
  const Manifest& manifest = this->manifest();
  facts_.name = manifest.model.name.c_str();
  facts_.weights = manifest.quantization.weights.c_str();
  facts_.manifest_sha256 = bundle_.manifest_sha256().c_str();
  facts_.num_tokens = static_cast<uint32_t>(manifest.tokenizer.num_tokens);
  facts_.vocab_size = static_cast<uint32_t>(manifest.model.vocab_size);
  facts_.context_length = static_cast<uint32_t>(manifest.model.context_length);
  facts_.max_new_tokens = static_cast<uint32_t>(manifest.max_new_tokens);
  facts_.starts_in_thought = manifest.chat.starts_in_thought ? 1 : 0;
  facts_.prompts = names_.data();
  facts_.num_prompts = names_.size();
}

void BundleTexts::add_model(std::string device, std::string kernels, int threads, int64_t max_concurrency) {
  device_ = std::move(device);
  kernels_ = std::move(kernels);
  facts_.device = device_.c_str();
  facts_.kernels = kernels_.c_str();
  facts_.threads = static_cast<uint32_t>(threads);
  facts_.max_concurrency = static_cast<uint32_t>(max_concurrency);
}

const BundleTexts::Named* BundleTexts::find(const char* name) const {
  const auto found = named_.find(name == nullptr ? manifest().prompt_name() : name);
  return found == named_.end() ? nullptr : &found->second;
}

const BundleTexts::Named& BundleTexts::get(const char* name) const {
  if (const Named* found = find(name)) return *found;
  std::string names;
  for (const char* known : names_) names += (names.empty() ? "" : ", ") + std::string(known);
  throw Error(Code::OPTION_INVALID, bundle_.path().string() + ": there is no prompt " +
                                        (name == nullptr ? manifest().prompt_name() : name) + ". It has " + names + ".");
}

}  // namespace rubricrm
