// Section 6 of rubricrm.h: readers of answers.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "api/answer_events.h"
#include "api/errors.h"
#include "api/handles.h"
#include "generation/completion.h"
#include "generation/stop_strings.h"
#include "text/utf8.h"

using namespace rubricrm;

struct rubricrm_reader {
  // texts: null: for text alone.
  rubricrm_reader(std::shared_ptr<const BundleTexts> bundle_texts, const char* prompt, const GenerationOptions& options)
      : texts(std::move(bundle_texts)),
        named(texts ? &texts->get(prompt) : nullptr),
        events(!named || BundleTexts::is_rubric(*named), texts && texts->manifest().chat.starts_in_thought),
        stops(options.stop) {
    if (texts) completion = std::make_unique<Completion>(texts->token_texts(), options);
  }

  void check_open(bool is_text) {
    if (is_over) throw Error(Code::OPTION_INVALID, "the reader was finished: nothing may follow. Make another one.");
    if (!is_text && !texts) {
      throw Error(Code::OPTION_INVALID, "the reader has no prompt, so it reads text alone. Make it with a prompt.");
    }
    if (mode == Mode::NONE) mode = is_text ? Mode::TEXT : Mode::IDS;
    if ((mode == Mode::TEXT) != is_text) {
      throw Error(Code::OPTION_INVALID, "an answer comes as ids or as text, not as both. Make another reader.");
    }
  }

  std::string take_id(int32_t id) {
    const TokenIds& stop_ids = named->stop_ids->token_ids;
    if (std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end()) {
      reason = FinishReason::STOP;
      return {};
    }
    Completion::Step step = completion->push(id);
    reason = step.reason;
    return std::move(step.text);
  }

  std::string take_piece(std::string_view piece) {
    std::string text = stops.push(characters.push(piece));
    if (stops.found()) reason = FinishReason::STOP;
    return text;
  }

  // What was held back, now that it ends; may find a stop string in it.
  std::string take_rest() {
    if (mode == Mode::IDS) {
      Completion::End end = completion->finish(reason == FinishReason::STOP);
      if (end.found_stop) reason = FinishReason::STOP;
      return std::move(end.text);
    }
    if (stops.found()) return {};
    std::string text = stops.push(reason == FinishReason::STOP ? characters.finish() : std::string());
    text += stops.finish();
    if (stops.found()) reason = FinishReason::STOP;
    return text;
  }

  enum class Mode { NONE, IDS, TEXT };

  const std::shared_ptr<const BundleTexts> texts;
  const BundleTexts::Named* const named;
  AnswerEvents events;
  std::unique_ptr<Completion> completion;
  StopStrings stops;
  Utf8Stream characters;
  Mode mode = Mode::NONE;
  FinishReason reason = FinishReason::NONE;
  bool is_over = false;
};

namespace {

// Hands out what a call brought.
void give(rubricrm_reader& reader, const rubricrm_event** event, rubricrm_finish_reason* reason) {
  if (event != nullptr) *event = &reader.events.shown();
  if (reason != nullptr) *reason = static_cast<rubricrm_finish_reason>(reader.reason);
}

void check_id(const rubricrm_reader& reader, int32_t id) {
  const int32_t num_tokens = reader.texts->tokenizer().num_tokens();
  if (id >= 0 && id < num_tokens) return;
  throw Error(Code::OPTION_INVALID, "the id " + std::to_string(id) + " is no token, expected 0 to " +
                                        std::to_string(num_tokens - 1) + ".");
}

}  // namespace

extern "C" {

rubricrm_code rubricrm_reader_new(const rubricrm_prompt* prompt, const rubricrm_reader_options* options,
                                  rubricrm_reader** reader, rubricrm_error* error) {
  return guarded(error, [&] {
    rubricrm_reader*& made = output(reader, "reader");
    const rubricrm_reader_options given = read_options(options, "options");
    check_reserved(given.reserved, "options");
    GenerationOptions how;
    how.stop = option_texts(given.stop, given.num_stop, "stop");
    how.stop_on_repetition = is_on(given.stop_on_repetition, "stop_on_repetition", true);
    how.check();
    std::shared_ptr<const BundleTexts> texts;
    if (prompt != nullptr) texts = prompt->texts;
    made = std::make_unique<rubricrm_reader>(std::move(texts), given.prompt, how).release();
  });
}

rubricrm_code rubricrm_reader_push(rubricrm_reader* reader, const int32_t* ids, size_t num_ids,
                                   const rubricrm_event** event, rubricrm_finish_reason* reason,
                                   rubricrm_error* error) {
  if (event != nullptr) *event = nullptr;
  if (reason != nullptr) *reason = RUBRICRM_UNFINISHED;
  return guarded(error, [&] {
    rubricrm_reader& self = required(reader, "reader");
    if (num_ids > 0) required(ids, "ids");
    self.check_open(false);
    for (size_t i = 0; i < num_ids; ++i) check_id(self, ids[i]);
    std::string text;
    for (size_t i = 0; i < num_ids && self.reason == FinishReason::NONE; ++i) text += self.take_id(ids[i]);
    self.events.feed(text);
    give(self, event, reason);
  });
}

rubricrm_code rubricrm_reader_push_text(rubricrm_reader* reader, const char* piece, size_t size,
                                        const rubricrm_event** event, rubricrm_finish_reason* reason,
                                        rubricrm_error* error) {
  if (event != nullptr) *event = nullptr;
  if (reason != nullptr) *reason = RUBRICRM_UNFINISHED;
  return guarded(error, [&] {
    rubricrm_reader& self = required(reader, "reader");
    const std::string_view text = text_of(piece, size, "piece");
    self.check_open(true);
    self.events.feed(self.reason == FinishReason::NONE ? self.take_piece(text) : std::string());
    give(self, event, reason);
  });
}

rubricrm_code rubricrm_reader_finish(rubricrm_reader* reader, int32_t reason, const rubricrm_event** event,
                                     rubricrm_error* error) {
  if (event != nullptr) *event = nullptr;
  return guarded(error, [&] {
    rubricrm_reader& self = required(reader, "reader");
    if (reason < RUBRICRM_UNFINISHED || reason > RUBRICRM_REPETITION) {
      throw Error(Code::OPTION_INVALID, "reason is " + std::to_string(reason) + ", expected a rubricrm_finish_reason.");
    }
    if (self.is_over) throw Error(Code::OPTION_INVALID, "the reader was finished already.");
    self.is_over = true;
    if (reason != RUBRICRM_UNFINISHED) self.reason = static_cast<FinishReason>(reason);
    if (self.reason == FinishReason::NONE) self.reason = FinishReason::CANCELLED;
    const std::string rest = self.mode == rubricrm_reader::Mode::NONE ? std::string() : self.take_rest();
    self.events.finish(rest, self.reason != FinishReason::STOP);
    give(self, event, nullptr);
  });
}

rubricrm_text rubricrm_reader_text(const rubricrm_reader* reader) {
  return reader == nullptr ? rubricrm_text{"", 0} : view_of(reader->events.text());
}

const rubricrm_rubric* rubricrm_reader_rubric(const rubricrm_reader* reader) {
  return reader == nullptr ? nullptr : reader->events.rubric();
}

void rubricrm_reader_free(rubricrm_reader* reader) { delete reader; }

}  // extern "C"
