// Tables of phrases in files: the same that Python writes and reads, in the format of safetensors.
#pragma once

#include <memory>
#include <string>

#include "generation/phrase_table.h"
#include "runtime/whole_file.h"

namespace rubricrm {

// Writes all entries to a file, whole or not at all, 16 bytes per entry. Throws FileError; what was there before stays.
void save_phrases(const PhraseTable& table, const fs::path& path, const std::string& tokenizer_sha256);

// A table, and what to tell the user; "": nothing.
struct LoadedPhrases {
  std::unique_ptr<PhraseTable> table;
  std::string warning;
};

// The table of a file; an empty one where there is no such file, or with a warning where it is no use: a damaged file,
// one of another tokenizer, and one that cannot be read. It stays as it is. `numbers` outlives the table.
LoadedPhrases load_phrases(const fs::path& path, const ItemNumbers& numbers, const std::string& tokenizer_sha256,
                           int64_t most_entries = PhraseTable::kMostEntries);

}  // namespace rubricrm
