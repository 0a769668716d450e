// Section 6 of rubricrm.h: prompts and tokens.
#include <memory>
#include <utility>

#include "api/errors.h"
#include "api/handles.h"
#include "api/inputs.h"
#include "api/text_view.h"

namespace rubricrm {
namespace {

const BundleTexts& texts_of(const rubricrm_prompt* prompt) { return *required(prompt, "prompt").texts; }

// One of the functions that give ids: `encode` makes them.
template <typename Encode>
rubricrm_code give_ids(const rubricrm_prompt* prompt, const rubricrm_ids** ids, rubricrm_error* error, Encode encode) {
  return guarded(error, [&] {
    const rubricrm_ids*& made = output(ids, "ids");
    made = std::make_unique<IdsView>(encode(texts_of(prompt)), true).release();
  });
}

void check_ids(const BundleTexts& texts, const int32_t* ids, size_t num_ids) {
  if (num_ids > 0) required(ids, "ids");
  for (size_t i = 0; i < num_ids; ++i) {
    if (ids[i] >= 0 && ids[i] < texts.tokenizer().num_tokens()) continue;
    throw Error(Code::OPTION_INVALID, "ids[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                                          ", expected ids from 0 to " +
                                          std::to_string(texts.tokenizer().num_tokens() - 1) + ".");
  }
}

}  // namespace
}  // namespace rubricrm

using namespace rubricrm;

extern "C" {

rubricrm_code rubricrm_prompt_open(const char* path, rubricrm_switch verify, rubricrm_prompt** prompt,
                                   rubricrm_error* error) {
  return guarded(error, [&] {
    rubricrm_prompt*& made = output(prompt, "prompt");
    Bundle bundle = Bundle::open(&required(path, "path"), is_on(verify, "verify", false));
    auto handle = std::make_unique<rubricrm_prompt>();
    handle->texts = std::make_shared<BundleTexts>(std::move(bundle));
    handle->is_owned = true;
    made = handle.release();
  });
}

void rubricrm_prompt_free(rubricrm_prompt* prompt) {
  if (prompt != nullptr && prompt->is_owned) delete prompt;
}

const rubricrm_facts* rubricrm_prompt_facts(const rubricrm_prompt* prompt) {
  return prompt == nullptr ? nullptr : &prompt->texts->facts();
}

rubricrm_code rubricrm_encode_request(const rubricrm_prompt* prompt, const char* request, size_t size,
                                      const rubricrm_ids** ids, rubricrm_error* error) {
  return give_ids(prompt, ids, error, [&](const BundleTexts& texts) {
    return texts.get(nullptr).prompt.encode(request_values(request, size));
  });
}

rubricrm_code rubricrm_encode_fields(const rubricrm_prompt* prompt, const char* name, const rubricrm_field* fields,
                                     size_t num_fields, const rubricrm_ids** ids, rubricrm_error* error) {
  return give_ids(prompt, ids, error, [&](const BundleTexts& texts) {
    return texts.get(name).prompt.encode(values_of(fields, num_fields));
  });
}

rubricrm_code rubricrm_encode_messages(const rubricrm_prompt* prompt, const rubricrm_message* messages,
                                       size_t num_messages, const rubricrm_ids** ids, rubricrm_error* error) {
  return give_ids(prompt, ids, error, [&](const BundleTexts& texts) {
    return texts.conversation().encode(messages_of(messages, num_messages));
  });
}

rubricrm_code rubricrm_render_fields(const rubricrm_prompt* prompt, const char* name, const rubricrm_field* fields,
                                     size_t num_fields, const rubricrm_text** text, rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_text*& made = output(text, "text");
    const Prompt& named = texts_of(prompt).get(name).prompt;
    made = new_text(named.render(values_of(fields, num_fields)));
  });
}

rubricrm_code rubricrm_fixed_prefix(const rubricrm_prompt* prompt, const rubricrm_ids** ids, rubricrm_error* error) {
  return give_ids(prompt, ids, error, [](const BundleTexts& texts) {
    return texts.get(nullptr).prompt.fixed_prefix();
  });
}

rubricrm_code rubricrm_tokenize(const rubricrm_prompt* prompt, const char* text, size_t size, const rubricrm_ids** ids,
                                rubricrm_error* error) {
  return give_ids(prompt, ids, error, [&](const BundleTexts& texts) {
    return texts.tokenizer().encode(text_of(text, size, "text"));
  });
}

rubricrm_code rubricrm_detokenize(const rubricrm_prompt* prompt, const int32_t* ids, size_t num_ids,
                                  const rubricrm_text** text, rubricrm_error* error) {
  return guarded(error, [&] {
    const rubricrm_text*& made = output(text, "text");
    const BundleTexts& texts = texts_of(prompt);
    check_ids(texts, ids, num_ids);
    made = new_text(texts.tokenizer().decode(TokenIds(ids, ids + num_ids)));
  });
}

const rubricrm_ids* rubricrm_stop_ids(const rubricrm_prompt* prompt, const char* name) {
  if (prompt == nullptr) return nullptr;
  const BundleTexts::Named* named = prompt->texts->find(name);
  return named == nullptr ? nullptr : named->stop_ids.get();
}

const rubricrm_grammar* rubricrm_prompt_grammar(const rubricrm_prompt* prompt, const char* name) {
  if (prompt == nullptr) return nullptr;
  const BundleTexts::Named* named = prompt->texts->find(name);
  return named == nullptr ? nullptr : handle_of(named->grammar.get());
}

void rubricrm_ids_free(const rubricrm_ids* ids) {
  const auto* view = static_cast<const IdsView*>(ids);
  if (view != nullptr && view->is_owned) delete view;
}

}  // extern "C"
