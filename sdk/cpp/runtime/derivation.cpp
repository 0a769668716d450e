#include "runtime/derivation.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "error.h"
#include "runtime/packed_layout.h"

namespace rubricrm {
namespace {

std::string shape_text(const GraphTensor& tensor) {
  std::string text;
  for (const int64_t size : tensor.shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

}  // namespace

Derivation::Derivation(const fs::path& source) : source_(source) {
  for (GraphTensor& tensor : external_tensors(source)) {
    const fs::path path = source.parent_path() / tensor.location;
    if (files_.count(tensor.location) == 0) {
      try {
        files_.emplace(tensor.location, MappedFile(path));
      } catch (const FileError& error) {
        throw Error(Code::BUNDLE_INVALID, std::string(error.what()) + ". Copy the bundle again.");
      }
    }
    const auto size = static_cast<int64_t>(files_.at(tensor.location).bytes().size());
    const int64_t end = tensor.offset + tensor.num_bytes;
    if (end > size) {
      throw Error(Code::BUNDLE_INVALID, path.string() + ": has " + std::to_string(size) + " bytes, " + tensor.name +
                                            " ends at " + std::to_string(end) +
                                            ": truncated or replaced. Copy or export the bundle again.");
    }
    tensors_[tensor.name] = std::move(tensor);
  }
}

void Derivation::write(const GraphTensor& wanted, NewFile& file) const {
  const GraphTensor* const same = find(wanted.name);
  if (same == nullptr) return file.write(made(wanted));
  if (same->num_bytes != wanted.num_bytes) refuse(wanted);
  file.write(bytes(*same));
}

// A tensor in its other layout.
std::string Derivation::made(const GraphTensor& wanted) const {
  for (const Conversion& way : conversions_to(wanted)) {
    const GraphTensor* const source = find(way.source);
    if (source == nullptr || !way.fits(*source)) continue;
    std::optional<std::string> made = way.convert(*source, bytes(*source), wanted);
    if (!made || static_cast<int64_t>(made->size()) != wanted.num_bytes) refuse(wanted);
    return std::move(*made);
  }
  refuse(wanted);
}

const GraphTensor* Derivation::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string_view Derivation::bytes(const GraphTensor& tensor) const {
  const std::string_view all = files_.at(tensor.location).bytes();
  return all.substr(static_cast<size_t>(tensor.offset), static_cast<size_t>(tensor.num_bytes));
}

void Derivation::refuse(const GraphTensor& wanted) const {
  throw Error(Code::BUNDLE_INVALID,
              source_.string() + ": " + wanted.name + " of type " + std::to_string(wanted.element_type) +
                  " and shape " + shape_text(wanted) +
                  " does not follow from its tensors: the two graphs are not of one model. Copy or export the bundle "
                  "again.");
}

void derive_data(const fs::path& graph, const fs::path& source, NewFile& file) {
  const Derivation derivation(source);
  std::vector<GraphTensor> wanted = external_tensors(graph);
  std::stable_sort(wanted.begin(), wanted.end(),
                   [](const GraphTensor& a, const GraphTensor& b) { return a.offset < b.offset; });
  for (const GraphTensor& tensor : wanted) {
    if (tensor.offset >= file.size()) {
      file.write_zeros(tensor.offset - file.size());
      derivation.write(tensor, file);
    } else if (tensor.offset + tensor.num_bytes > file.size()) {  // else it is a view of bytes that are written already
      throw Error(Code::BUNDLE_INVALID,
                  graph.string() + ": " + tensor.name + " overlaps the tensor before it. Export the bundle again.");
    }
  }
}

int64_t data_size(const fs::path& graph) {
  int64_t size = 0;
  for (const GraphTensor& tensor : external_tensors(graph)) size = std::max(size, tensor.offset + tensor.num_bytes);
  return size;
}

}  // namespace rubricrm
