#include "generation/grammar_file.h"

#include <utility>

#include "runtime/npz.h"

namespace rubricrm {

Grammar load_grammar(const fs::path& path, int64_t num_tokens, const TokenIds& stop_ids) {
  const Npz file = Npz::open(path);
  GrammarTables tables;
  tables.token_class = file.array<uint16_t>("token_class", 1).values;
  NpzArray<int16_t> steps = file.array<int16_t>("steps", 2);
  tables.num_rows = steps.shape[0];
  tables.num_classes = steps.shape[1];
  tables.steps = std::move(steps.values);
  tables.row = file.array<uint16_t>("row", 1).values;
  tables.shortest = file.array<uint16_t>("shortest", 1).values;
  tables.forced = file.array<int32_t>("forced", 1).values;
  return Grammar(std::move(tables), num_tokens, stop_ids, path.string());
}

}  // namespace rubricrm
