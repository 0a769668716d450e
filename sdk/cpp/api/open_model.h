// An open bundle, and its answers: what stands behind a model's handle, and a request's.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "api/answer_events.h"
#include "api/bundle_texts.h"
#include "api/result_view.h"
#include "api/shared_phrases.h"
#include "generation/engine.h"
#include "generation/options.h"
#include "runtime/onnx_session.h"
#include "runtime/prefix.h"

namespace rubricrm {

struct ModelOptions {
  SessionOptions session;
  EngineOptions engine;
  bool verify = false;
  bool draft = true;
  bool save_phrases = false;
  fs::path phrases_file;  // in place of the bundle's own in the cache directory
};

// For any number of threads. In a fork every method throws MODEL_CLOSED before it takes a lock, and nothing may be
// destroyed: see is_here().
class OpenModel {
 public:
  // Errors as rubricrm_model_open.
  OpenModel(const std::string& path, const ModelOptions& options);
  OpenModel(const OpenModel&) = delete;
  OpenModel& operator=(const OpenModel&) = delete;

  // Whether this process opened it.
  bool is_here() const;
  void check_here() const;

  const std::shared_ptr<BundleTexts>& texts() const { return texts_; }
  const Description& description() const { return description_; }
  Engine& engine() { return *engine_; }

  // Lets an answer to a prompt be computed. `named`: whose stop ids and grammar hold; null: of a conversation.
  std::shared_ptr<Sequence> submit(TokenIds prompt_ids, const BundleTexts::Named* named,
                                   const GenerationOptions& options, Time started);
  // WRITE_FAILED: phrases cannot be saved; it is closed all the same.
  void close();

 private:
  std::unique_ptr<Drafts> make_drafts(OnnxSession& session, const ModelOptions& options);

  const int process_;
  std::shared_ptr<BundleTexts> texts_;
  std::optional<Prefix> prefix_;
  std::unique_ptr<SharedPhrases> phrases_;  // null: nothing is drafted
  Description description_;
  std::unique_ptr<Engine> engine_;
};

// A generation that was submitted, and its reader. Reading methods throw STREAM_BUSY while another one reads.
class OpenRequest {
 public:
  // What was asked for: a prompt's fields (name: null: for a rubric), or a conversation.
  static std::shared_ptr<OpenRequest> fields(std::shared_ptr<OpenModel> model, const char* name,
                                             const FieldValues& values, const GenerationOptions& options);
  static std::shared_ptr<OpenRequest> messages(std::shared_ptr<OpenModel> model, const std::vector<Message>& messages,
                                               const GenerationOptions& options);

  bool is_here() const { return model_->is_here(); }
  State state() const;
  // The next event; null: none is there, or if `waits` none comes any more.
  const rubricrm_event* next(bool waits);
  void wait();
  // Calls for each event until the end, or until the call returns something else than 0: that cancels.
  void stream(rubricrm_event_callback callback, void* user);
  void cancel();
  // Cancels, and ends stream() without another event: nobody has a handle any more.
  void abandon();
  std::unique_ptr<ResultView> result();

 private:
  class Reading;

  OpenRequest(std::shared_ptr<OpenModel> model, std::string request, TokenIds prompt_ids,
              const BundleTexts::Named* named, const GenerationOptions& options, Time started);
  const rubricrm_event* read(bool waits);
  const rubricrm_event* read_end();
  void throw_error() const;

  const std::shared_ptr<OpenModel> model_;
  const std::string request_;
  const bool is_rubric_;
  const Time tokenized_;
  const std::shared_ptr<Sequence> sequence_;
  AnswerEvents events_;
  size_t num_read_ = 0;
  bool is_over_ = false;
  std::atomic<bool> is_reading_{false};
  std::atomic<bool> is_abandoned_{false};
};

}  // namespace rubricrm
