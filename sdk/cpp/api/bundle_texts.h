// A bundle's texts without its model: tokenizer, prompts, stop ids, grammars.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "generation/grammar.h"
#include "generation/token_texts.h"
#include "runtime/bundle.h"
#include "runtime/conversation.h"
#include "runtime/prompt.h"
#include "runtime/tokenizer.h"
#include "rubricrm.h"

namespace rubricrm {

// Memory of ids, behind the public struct.
struct IdsView : rubricrm_ids {
  IdsView(TokenIds given, bool owned) : rubricrm_ids{}, token_ids(std::move(given)), is_owned(owned) {
    data = token_ids.data();
    size = token_ids.size();
  }
  const TokenIds token_ids;
  const bool is_owned;  // whether rubricrm_ids_free frees it
};

// It never changes: any number of threads may use it.
class BundleTexts {
 public:
  struct Named {
    std::string name;
    Prompt prompt;
    std::unique_ptr<const IdsView> stop_ids;
    std::unique_ptr<const Grammar> grammar;  // null: the bundle holds none
  };

  // Errors as Bundle::open and of the files that are read.
  explicit BundleTexts(Bundle bundle);
  BundleTexts(const BundleTexts&) = delete;
  BundleTexts& operator=(const BundleTexts&) = delete;

  const Bundle& bundle() const { return bundle_; }
  const Manifest& manifest() const { return bundle_.manifest(); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const TokenTexts& token_texts() const { return token_texts_; }
  const Conversation& conversation() const { return conversation_; }
  const rubricrm_facts& facts() const { return facts_; }
  // What the model of this bundle adds, once it is open.
  void add_model(std::string device, std::string kernels, int threads, int64_t max_concurrency);

  // The prompt of a name; null: the manifest's `prompt_name`. find: null where there is none; get: OPTION_INVALID.
  const Named* find(const char* name) const;
  const Named& get(const char* name) const;
  static bool is_rubric(const Named& named) { return named.name == kRubricPrompt; }

 private:
  void add_prompt(const std::string& name, const PromptFacts& facts);
  void show();

  Bundle bundle_;
  Tokenizer tokenizer_;
  TokenTexts token_texts_;
  Conversation conversation_;
  std::map<std::string, Named> named_;
  std::vector<const char*> names_;
  std::string device_, kernels_;
  rubricrm_facts facts_{};
};

}  // namespace rubricrm
