// What the drafts of an open model share: phrases of rubrics and where they are saved, and what rows cost here.
#pragma once

#include <memory>
#include <string>

#include "api/bundle_texts.h"
#include "generation/drafts.h"
#include "generation/item_number.h"
#include "generation/phrase_table.h"
#include "runtime/prefix.h"

namespace rubricrm {

// For any number of threads.
class SharedPhrases {
 public:
  // file: where they are read from, and saved; empty: they are in memory alone. The texts outlive it.
  SharedPhrases(const BundleTexts& texts, fs::path file, const Warn& warn);

  const ItemNumbers& numbers() const { return numbers_; }
  PhraseTable& table() { return *table_; }
  // WRITE_FAILED: they cannot be saved.
  void save() const;

 private:
  const ItemNumbers numbers_;
  const fs::path file_;
  const std::string tokenizer_sha256_;
  std::unique_ptr<PhraseTable> table_;
};

// The file in the cache directory that keeps the phrases of a bundle's rubrics. OPTION_INVALID: there is no such
// directory that is this user's alone.
fs::path saved_phrases(const CacheDirectory& cache, const std::string& manifest_sha256);

// Drafts for a session whose results are the same with any: measures, once on a machine, what rows cost. prefix: may be
// null. The phrases outlive them.
std::unique_ptr<Drafts> open_drafts(OnnxSession& session, const Bundle& bundle, const Prefix* prefix,
                                    SharedPhrases& phrases, const Warn& warn);

}  // namespace rubricrm
