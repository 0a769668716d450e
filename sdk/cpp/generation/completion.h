// Tokens to text while they are decided: whole characters, stop strings, an end to circles.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "generation/finish_reason.h"
#include "generation/options.h"
#include "generation/repetition.h"
#include "generation/stop_strings.h"
#include "generation/token_texts.h"
#include "text/utf8.h"

namespace rubricrm {

// The text of one sequence. The tokenizer outlives it.
class Completion {
 public:
  struct Step {
    std::string text;     // that is certain now, whole characters
    FinishReason reason;  // why the sequence must end: STOP or REPETITION; NONE
  };
  struct End {
    std::string text;  // that was held back
    bool found_stop;   // whether a stop string ended the text
  };

  Completion(const TokenTexts& texts, const GenerationOptions& options);

  Step push(int32_t token_id);
  // is_whole: the model itself ended it. Else a character that the end cut in half is dropped.
  End finish(bool is_whole);

 private:
  const TokenTexts& texts_;
  Utf8Stream characters_;
  StopStrings stops_;
  std::optional<RepetitionDetector> detector_;
};

}  // namespace rubricrm
