// A data file in another layout, made of that of another graph of the same model; as runtime/data_layout.py.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "runtime/graph_tensors.h"
#include "runtime/mapped_file.h"
#include "runtime/new_file.h"

namespace rubricrm {

// Tensors of a graph, and what follows from them in the other layout. Their bytes are mapped, not read.
class Derivation {
 public:
  // source: the file of a graph; its data files lie beside it. Throws BUNDLE_INVALID: one of them is damaged.
  explicit Derivation(const fs::path& source);

  // Writes the bytes of a tensor of the other graph. Memory: those of the largest tensor, twice. Throws BUNDLE_INVALID:
  // it does not follow from any tensor of this graph; FileError.
  void write(const GraphTensor& wanted, NewFile& file) const;

 private:
  const GraphTensor* find(const std::string& name) const;
  std::string_view bytes(const GraphTensor& tensor) const;
  std::string made(const GraphTensor& wanted) const;
  [[noreturn]] void refuse(const GraphTensor& wanted) const;

  const fs::path source_;
  std::map<std::string, GraphTensor> tensors_;
  std::map<std::string, MappedFile> files_;
};

// Writes the data file that a graph wants from the data of another graph of the same model. Time: that of reading and
// writing the file (2 GB: seconds). Throws BUNDLE_INVALID: a file is damaged, or the graphs are not of one model in two
// layouts; FileError: it cannot be written.
void derive_data(const fs::path& graph, const fs::path& source, NewFile& file);

// The bytes of a graph's data file. Throws BUNDLE_INVALID.
int64_t data_size(const fs::path& graph);

}  // namespace rubricrm
