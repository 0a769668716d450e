#include "runtime/npz.h"

#include <algorithm>
#include <array>
#include <utility>

#include "error.h"
#include "runtime/npy.h"

namespace rubricrm {
namespace {

// Records of a ZIP file: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3. Numbers are little-endian.
constexpr uint32_t kLocalSignature = 0x04034b50, kEntrySignature = 0x02014b50, kEndSignature = 0x06054b50;
constexpr size_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22, kMostComment = 65535;
constexpr uint32_t kIsIn64Bits = 0xffffffff;
constexpr std::string_view kSuffix = ".npy";

uint32_t number(std::string_view data, size_t at, size_t size) {
  uint32_t value = 0;
  for (size_t n = size; n-- > 0;) value = value << 8 | static_cast<unsigned char>(data[at + n]);
  return value;
}

std::array<uint32_t, 256> checksum_table() {
  std::array<uint32_t, 256> table;
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t value = n;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320 : 0);
    table[n] = value;
  }
  return table;
}

// CRC-32 as ZIP files have it.
uint32_t checksum(std::string_view data) {
  static const std::array<uint32_t, 256> table = checksum_table();
  uint32_t value = 0xffffffff;
  for (const char c : data) value = value >> 8 ^ table[(value ^ static_cast<unsigned char>(c)) & 255];
  return ~value;
}

// Where the record lies that ends the archive.
size_t find_end(std::string_view data) {
  if (data.size() < kEndBytes) return std::string_view::npos;
  const size_t last = data.size() - kEndBytes, first = last - std::min(last, kMostComment);
  for (size_t at = last + 1; at-- > first;) {
    if (number(data, at, 4) == kEndSignature && number(data, at + 20, 2) == last - at) return at;
  }
  return std::string_view::npos;
}

}  // namespace

Npz Npz::open(const fs::path& path) {
  try {
    return Npz(read_file(path), path.string());
  } catch (const FileError& error) {
    throw Error(Code::BUNDLE_INVALID,
                path.string() + ": cannot be read (" + error.what() + "). Copy or export the bundle again.");
  }
}

Npz::Npz(std::string contents, std::string where) : contents_(std::move(contents)), where_(std::move(where)) {
  read_directory();
}

void Npz::fail(const std::string& what) const {
  throw Error(Code::BUNDLE_INVALID, where_ + ": " + what + ". Copy or export the bundle again.");
}

void Npz::read_directory() {
  const std::string_view data = contents_;
  const size_t end = find_end(data);
  if (end == std::string_view::npos) fail("cannot be read (it is not a ZIP file)");
  const uint32_t count = number(data, end + 10, 2), size = number(data, end + 12, 4);
  uint64_t at = number(data, end + 16, 4);
  if (at > end || size > end - at) fail("cannot be read (its directory lies outside of it)");
  const uint64_t directory_end = at + size;
  for (uint32_t n = 0; n < count; ++n) {
    if (directory_end - at < kEntryBytes || number(data, at, 4) != kEntrySignature) {
      fail("cannot be read (its directory is damaged)");
    }
    const uint32_t flags = number(data, at + 8, 2), method = number(data, at + 10, 2);
    const uint32_t stored = number(data, at + 20, 4), plain = number(data, at + 24, 4);
    const uint64_t name_size = number(data, at + 28, 2);
    const uint64_t more = name_size + number(data, at + 30, 2) + number(data, at + 32, 2);
    if (directory_end - at - kEntryBytes < more) fail("cannot be read (its directory is damaged)");
    std::string name(data.substr(at + kEntryBytes, name_size));
    if ((flags & 1) != 0 || method != 0 || stored != plain || plain == kIsIn64Bits) {
      fail("cannot be read (" + name + " is compressed, encrypted or too large: it must be stored as it is)");
    }
    const Member member = member_at(number(data, at + 42, 4), plain, number(data, at + 16, 4));
    if (name.size() > kSuffix.size() && name.substr(name.size() - kSuffix.size()) == kSuffix) {
      name.resize(name.size() - kSuffix.size());
    }
    if (!members_.emplace(name, member).second) fail("holds two arrays " + name);
    at += kEntryBytes + more;
  }
}

Npz::Member Npz::member_at(uint64_t offset, uint64_t size, uint32_t checksum) const {
  const std::string_view data = contents_;
  if (data.size() < kLocalBytes || offset > data.size() - kLocalBytes || number(data, offset, 4) != kLocalSignature) {
    fail("cannot be read (its directory names a place where nothing lies)");
  }
  const uint64_t start = offset + kLocalBytes + number(data, offset + 26, 2) + number(data, offset + 28, 2);
  if (start > data.size() || size > data.size() - start) fail("cannot be read (it is truncated)");
  return {data.substr(start, size), checksum};
}

Npz::Raw Npz::read(const std::string& name, const std::string& type, size_t num_dimensions) const {
  const auto found = members_.find(name);
  if (found == members_.end()) fail("lacks the array " + name);
  if (checksum(found->second.bytes) != found->second.checksum) fail("cannot be read (" + name + " is damaged)");
  NpyFile file;
  try {
    file = parse_npy(found->second.bytes);
  } catch (const std::runtime_error& error) {
    fail("cannot be read (" + name + ": " + error.what() + ")");
  }
  if (file.type != type || file.shape.size() != num_dimensions || file.is_fortran_order) {
    fail(name + " is " + file.type + " of " + std::to_string(file.shape.size()) + " dimensions" +
         (file.is_fortran_order ? " in Fortran order" : "") + ", expected " + type + " of " +
         std::to_string(num_dimensions));
  }
  int64_t count = 1;
  for (const int64_t size : file.shape) count *= size;
  if (static_cast<uint64_t>(count) * file.item_size != file.bytes.size()) {
    fail("cannot be read (" + name + " has " + std::to_string(file.bytes.size()) + " bytes, its shape " +
         std::to_string(count * file.item_size) + ")");
  }
  return {file.shape, file.bytes};
}

}  // namespace rubricrm
