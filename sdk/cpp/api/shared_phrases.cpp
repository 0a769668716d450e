#include "api/shared_phrases.h"

#include <utility>

#include "error.h"
#include "generation/phrase_file.h"
#include "generation/step_cost_file.h"

namespace rubricrm {
namespace {

std::string tokenizer_sha256_of(const Manifest& manifest) { return manifest.files.at(manifest.tokenizer.file).sha256; }

// Runs a step of so many rows after the prefix, in a slot that the first step makes.
RunStep step_runner(OnnxSession& session, const Prefix* prefix) {
  const int64_t past = prefix == nullptr ? 0 : static_cast<int64_t>(prefix->token_ids().size());
  auto slot = std::make_shared<std::unique_ptr<Slot>>();
  return [&session, prefix, past, slot](int64_t rows) {
    if (*slot == nullptr) {
      *slot = std::move(session.new_slots(1, past + kMostMeasuredRows).front());
      if (prefix != nullptr) (*slot)->restore(prefix->positions(), past);
    }
    (*slot)->rewind(past);
    session.step({Chunk{slot->get(), TokenIds(rows, 0), static_cast<int>(rows)}});
  };
}

// As part of a file's name: the Python package writes the same.
std::string conditions_of(const OnnxSession& session) {
  const std::string own = "rubricrm ";
  const std::string& kernels = session.kernels();
  const std::string set = kernels.rfind(own, 0) == 0 ? kernels.substr(own.size()) : "none";
  return std::to_string(session.threads()) + "-threads-" + set;
}

}  // namespace

SharedPhrases::SharedPhrases(const BundleTexts& texts, fs::path file, const Warn& warn)
    : numbers_(texts.token_texts()), file_(std::move(file)), tokenizer_sha256_(tokenizer_sha256_of(texts.manifest())) {
  if (file_.empty()) {
    table_ = std::make_unique<PhraseTable>(numbers_);
    return;
  }
  LoadedPhrases loaded = load_phrases(file_, numbers_, tokenizer_sha256_);
  table_ = std::move(loaded.table);
  if (!loaded.warning.empty()) tell(warn, loaded.warning);
}

void SharedPhrases::save() const {
  if (file_.empty()) return;
  try {
    save_phrases(*table_, file_, tokenizer_sha256_);
  } catch (const FileError& error) {
    throw Error(Code::WRITE_FAILED, file_.string() + ": the phrases cannot be saved (" + error.what() + ").");
  }
}

fs::path saved_phrases(const CacheDirectory& cache, const std::string& manifest_sha256) {
  try {
    return cache.own(manifest_sha256) / "phrases.safetensors";
  } catch (const FileError& error) {
    throw Error(Code::OPTION_INVALID, std::string("save_phrases: ") + cache.without(error));
  }
}

std::unique_ptr<Drafts> open_drafts(OnnxSession& session, const Bundle& bundle, const Prefix* prefix,
                                    SharedPhrases& phrases, const Warn& warn) {
  OpenedStepCost opened = open_step_cost(session.cache(), bundle.manifest_sha256(), session.cache_key(),
                                         conditions_of(session), step_runner(session, prefix));
  for (const std::string& warning : opened.warnings) tell(warn, warning);
  return std::make_unique<DeskDrafts>(DraftDesk(std::move(opened.cost), phrases.numbers(), phrases.table()));
}

}  // namespace rubricrm
