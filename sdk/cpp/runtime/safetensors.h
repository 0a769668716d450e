// Files of tensors (.safetensors): https://huggingface.co/docs/safetensors
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace rubricrm {

struct SafeTensor {
  std::string type;  // "F16"
  std::vector<int64_t> shape;
  std::string_view bytes;  // in the file's memory
};

struct SafeTensors {
  std::map<std::string, std::string> metadata;
  std::map<std::string, SafeTensor> tensors;
};

// Reads a whole file in memory, that must outlive the result. Checks that tensors have the sizes of their types and
// shapes, and lie side by side up to the file's end. Throws std::runtime_error with a clause that says what is wrong.
SafeTensors parse_safetensors(std::string_view file);

// What stands before the bytes of a file that holds one tensor: the same bytes that Python writes.
std::string safetensors_header(const std::string& name, const SafeTensor& tensor,
                               const std::map<std::string, std::string>& metadata);

}  // namespace rubricrm
