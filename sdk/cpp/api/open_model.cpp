#include "api/open_model.h"

#include <unistd.h>

#include <utility>

#include "error.h"

namespace rubricrm {

OpenModel::OpenModel(const std::string& path, const ModelOptions& options) : process_(getpid()) {
  check(options.engine);
  Bundle bundle = Bundle::open(path, options.verify);
  const Warn& warn = options.session.warn;
  std::unique_ptr<OnnxSession> session = OnnxSession::open(bundle, options.session);
  std::optional<Prefix> kept = kept_prefix(bundle, *session, warn);
  texts_ = std::make_shared<BundleTexts>(std::move(bundle));
  const Manifest& manifest = texts_->manifest();
  const TokenIds fixed = texts_->get(nullptr).prompt.fixed_prefix();
  if (!fixed.empty()) prefix_.emplace(open_prefix(texts_->bundle(), *session, fixed, std::move(kept), warn));
  texts_->add_model(session->device(), session->kernels(), session->threads(), options.engine.max_concurrency);
  description_ = {{"name", manifest.model.name},
                  {"weights", manifest.quantization.weights},
                  {"device", session->device()},
                  {"kernels", session->kernels()},
                  {"manifest_sha256", texts_->bundle().manifest_sha256()}};
  std::optional<FixedPrefix> prefix;
  if (prefix_) prefix = FixedPrefix{prefix_->token_ids(), prefix_->positions()};
  const EngineFacts facts{texts_->bundle().path().string(), manifest.model.context_length,
                          manifest.tokenizer.num_tokens, manifest.max_new_tokens};
  std::unique_ptr<Drafts> drafts = make_drafts(*session, options);
  engine_ = std::make_unique<Engine>(std::move(session), facts, std::move(prefix), options.engine, std::move(drafts));
}

// Null where drafts could change what is written, or are not wanted.
std::unique_ptr<Drafts> OpenModel::make_drafts(OnnxSession& session, const ModelOptions& options) {
  if (!options.draft || !session.is_exact()) return nullptr;
  fs::path file = options.phrases_file;
  if (file.empty() && options.save_phrases) file = saved_phrases(session.cache(), texts_->bundle().manifest_sha256());
  phrases_ = std::make_unique<SharedPhrases>(*texts_, std::move(file), options.session.warn);
  return open_drafts(session, texts_->bundle(), prefix_ ? &*prefix_ : nullptr, *phrases_,
                     options.session.warn);
}

bool OpenModel::is_here() const { return getpid() == process_; }

void OpenModel::check_here() const {
  if (is_here()) return;
  throw Error(Code::MODEL_CLOSED, texts_->bundle().path().string() + ": was opened in process " +
                                      std::to_string(process_) + " and cannot be used in its fork " +
                                      std::to_string(getpid()) + ". Open the model after the fork.");
}

std::shared_ptr<Sequence> OpenModel::submit(TokenIds prompt_ids, const BundleTexts::Named* named,
                                            const GenerationOptions& options, Time started) {
  check_here();
  Order order;
  order.prompt_ids = std::move(prompt_ids);
  order.options = options;
  order.is_rubric = named != nullptr && BundleTexts::is_rubric(*named);
  const BundleTexts::Named& ending = named != nullptr ? *named : texts_->get(nullptr);
  order.stop_ids = ending.stop_ids->token_ids;
  if (named != nullptr) order.grammar = named->grammar.get();
  order.completion = std::make_unique<Completion>(texts_->token_texts(), options);
  order.started = started;
  return engine_->submit(std::move(order));
}

void OpenModel::close() {
  check_here();
  engine_->close();
  if (phrases_) phrases_->save();
}

}  // namespace rubricrm
