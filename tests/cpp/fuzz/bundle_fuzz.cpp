// Files of a bundle that anybody may have written: a manifest, an archive of NumPy, an array of one, or a file of
// tensors, told apart by how they begin. A typed error is fine; anything else is a finding.
#include <cstdint>
#include <stdexcept>
#include <string>

#include "error.h"
#include "runtime/manifest_reader.h"
#include "runtime/npy.h"
#include "runtime/npz.h"
#include "runtime/safetensors.h"

using namespace rubricrm;

namespace {

void read(const std::string& data) {
  if (data[0] == '{') {
    read_manifest(data, "rubricrm.json");
  } else if (data[0] == 'P') {
    const Npz file(data, "grammar.npz");
    file.array<uint16_t>("token_class", 1);
    file.array<int16_t>("steps", 2);
    file.array<int32_t>("forced", 1);
  } else if (data[0] == '\x93') {
    parse_npy(data);
  } else {
    parse_safetensors(data);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  try {
    read(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const std::runtime_error&) {  // Error is one of them
  }
  return 0;
}
