// Arrays of an uncompressed NumPy archive (.npz), as numpy.savez writes it: a ZIP file of .npy files.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/whole_file.h"

namespace rubricrm {

template <class T>
struct NpzArray {
  std::vector<int64_t> shape;
  std::vector<T> values;  // row by row
};

// An archive in memory. Its directory is checked when it is read, an array when it is asked for. Every error is
// BUNDLE_INVALID and names `where`.
class Npz {
 public:
  static Npz open(const fs::path& path);
  // Contents of a file; `where` is its path, for messages.
  Npz(std::string contents, std::string where);

  // An array of one of the types uint16, int16, int32, that has so many dimensions. Refused: another type, byte order
  // or order of axes, a checksum that is not that of the bytes, a shape that does not fit them.
  template <class T>
  NpzArray<T> array(const std::string& name, size_t num_dimensions) const {
    const Raw raw = read(name, type_name<T>(), num_dimensions);
    NpzArray<T> result{raw.shape, std::vector<T>(raw.bytes.size() / sizeof(T))};
    if (!raw.bytes.empty()) std::memcpy(result.values.data(), raw.bytes.data(), raw.bytes.size());
    return result;
  }

  // Throws BUNDLE_INVALID about this file.
  [[noreturn]] void fail(const std::string& what) const;

 private:
  struct Member {
    std::string_view bytes;
    uint32_t checksum;
  };
  struct Raw {
    std::vector<int64_t> shape;
    std::string_view bytes;
  };

  template <class T>
  static const char* type_name();

  void read_directory();
  Member member_at(uint64_t offset, uint64_t size, uint32_t checksum) const;
  Raw read(const std::string& name, const std::string& type, size_t num_dimensions) const;

  std::string contents_, where_;
  std::map<std::string, Member> members_;
};

template <>
inline const char* Npz::type_name<uint16_t>() {
  return "uint16";
}
template <>
inline const char* Npz::type_name<int16_t>() {
  return "int16";
}
template <>
inline const char* Npz::type_name<int32_t>() {
  return "int32";
}

}  // namespace rubricrm
