// The header of a NumPy array file (.npy), format versions 1 to 3:
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rubricrm {

// `bytes`: all that follows the header.
struct NpyFile {
  std::string type;   // as numpy names it, "uint16"; in another byte order or of another kind as the file has it
  int64_t item_size;  // 0: of an unknown type
  std::vector<int64_t> shape;
  bool is_fortran_order;
  std::string_view bytes;
};

// Throws std::runtime_error with a clause that says what is wrong.
NpyFile parse_npy(std::string_view file);

}  // namespace rubricrm
