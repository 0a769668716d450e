// Archives of NumPy: arrays as they were written, and archives that lie.
#include "runtime/npz.h"

#include "expect_error.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

std::string little(uint64_t value, int size) {
  std::string text;
  for (int n = 0; n < size; ++n, value >>= 8) text += static_cast<char>(value & 255);
  return text;
}

std::string npy(const std::string& header, const std::string& data) {
  return std::string("\x93NUMPY\x01\x00", 8) + little(header.size(), 2) + header + data;
}

uint32_t checksum(const std::string& data) {
  uint32_t value = 0xffffffff;
  for (const char c : data) {
    value ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320 : 0);
  }
  return ~value;
}

// An archive of one member, whose directory may say something else of it.
struct Archive {
  std::string name = "row.npy";
  std::string contents = npy("{'descr': '<u2', 'fortran_order': False, 'shape': (2,), }", little(7, 2) + little(9, 2));
  uint32_t flags = 0, method = 0, count = 1, offset = 0;
  int64_t more_bytes = 0, more_checksum = 0;

  std::string bytes() const {
    const std::string size = little(contents.size() + more_bytes, 4);
    const std::string facts = little(20, 2) + little(flags, 2) + little(method, 2) + little(0, 4) +
                              little(checksum(contents) + more_checksum, 4) + size + size + little(name.size(), 2);
    const std::string local = "PK\x03\x04" + facts + little(0, 2) + name + contents;
    const std::string entry = "PK\x01\x02" + little(20, 2) + facts + little(0, 12) + little(offset, 4) + name;
    return local + entry + "PK\x05\x06" + little(0, 4) + little(count, 2) + little(count, 2) + little(entry.size(), 4) +
           little(local.size(), 4) + little(0, 2);
  }
};

void expect_refused(const std::string& words, const std::string& bytes) {
  expect_error(Code::BUNDLE_INVALID, words, [&] { Npz(bytes, "grammar.npz").array<uint16_t>("row", 1); }, words);
}

void expect_header_refused(const std::string& words, const std::string& header, const std::string& data = "") {
  Archive archive;
  archive.contents = npy(header, data);
  expect_refused(words, archive.bytes());
}

void test_a_grammar() {
  const Npz file = Npz::open(fs::path(RUBRICRM_CASES) / "engine/int4/grammar.npz");
  const auto token_class = file.array<uint16_t>("token_class", 1);
  const auto steps = file.array<int16_t>("steps", 2);
  const auto forced = file.array<int32_t>("forced", 1);
  EXPECT(token_class.shape[0] == 261 && token_class.values.size() == 261, "a class per token");
  EXPECT(steps.values.size() == static_cast<size_t>(steps.shape[0] * steps.shape[1]), "all steps");
  EXPECT(forced.shape == file.array<uint16_t>("row", 1).shape, "as many as states");
  EXPECT(token_class.values[2] == 1, "the stop id has class %d", token_class.values[2]);
  expect_error(Code::BUNDLE_INVALID, "lacks the array other", [&] { file.array<int32_t>("other", 1); });
  expect_error(Code::BUNDLE_INVALID, "forced is int32 of 1 dimensions, expected uint16 of 1",
               [&] { file.array<uint16_t>("forced", 1); });
  expect_error(Code::BUNDLE_INVALID, "steps is int16 of 2 dimensions, expected int16 of 1",
               [&] { file.array<int16_t>("steps", 1); });
}

void test_an_archive() {
  const auto found = Npz(Archive().bytes(), "x").array<uint16_t>("row", 1);
  EXPECT(found.shape == std::vector<int64_t>{2} && found.values[0] == 7 && found.values[1] == 9, "its numbers");
  expect_error(Code::BUNDLE_INVALID, "none.npz: cannot be read", [] { Npz::open("none.npz"); });
  for (size_t size = 0; size < Archive().bytes().size(); ++size) {
    expect_refused("grammar.npz: ", Archive().bytes().substr(0, size));
  }
}

void test_directories_that_lie() {
  Archive archive;
  archive.more_bytes = 1;
  expect_refused("is damaged", archive.bytes());  // its checksum is not that of more bytes
  archive.more_bytes = 1000;
  expect_refused("truncated", archive.bytes());
  archive.more_bytes = 0x7ffffff0;
  expect_refused("truncated", archive.bytes());
  archive = {};
  archive.more_checksum = 1;
  expect_refused("row is damaged", archive.bytes());
  archive = {};
  archive.method = 8;
  expect_refused("compressed", archive.bytes());
  archive = {};
  archive.flags = 1;
  expect_refused("encrypted", archive.bytes());
  archive = {};
  archive.count = 2;
  expect_refused("its directory is damaged", archive.bytes());
  archive.count = 0;
  expect_refused("lacks the array row", archive.bytes());
  archive = {};
  for (const uint32_t offset : {1u, 100u, 0xfffffffeu}) {
    archive.offset = offset;
    expect_refused("its directory names a place where nothing lies", archive.bytes());
  }
}

void test_headers_that_lie() {
  const std::string four = little(7, 2) + little(9, 2);
  expect_header_refused("has 4 bytes, its shape 6", "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }", four);
  expect_header_refused("has 4 bytes, its shape 2", "{'descr': '<u2', 'fortran_order': False, 'shape': (1,), }", four);
  expect_header_refused("too large", "{'descr': '<u2', 'fortran_order': False, 'shape': (9223372036854775807,), }");
  expect_header_refused("too large", "{'descr': '<u2', 'fortran_order': False, 'shape': (99999999,99999999), }");
  expect_header_refused("no number", "{'descr': '<u2', 'fortran_order': False, 'shape': (-2,), }", four);
  expect_header_refused("row is >u2 of 1", "{'descr': '>u2', 'fortran_order': False, 'shape': (2,), }", four);
  expect_header_refused("row is |O of 1", "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", four);
  expect_header_refused("uint16 of 0 dimensions", "{'descr': '<u2', 'fortran_order': False, 'shape': (), }", "xx");
  expect_header_refused("Fortran", "{'descr': '<u2', 'fortran_order': True, 'shape': (2,), }", four);
  expect_header_refused("neither", "{'descr': '<u2', 'fortran_order': 0, 'shape': (2,), }", four);
  expect_header_refused("no description", "{'descr': '<u2', 'shape': (2,), }", four);
  expect_header_refused("the key 'more'", "{'more': 1}", four);
  expect_header_refused("does not end", "{'descr", four);
  expect_header_refused("no description", "{'descr': '<u2', 'fortran_order': False, 'shape': (2,), } x", four);
  Archive archive;
  archive.contents = std::string("\x93NUMPY\x04\x00\x00\x00\x00\x00", 12);
  expect_refused("format version is 4", archive.bytes());
  archive.contents = std::string("\x93NUMPY\x01\x00\xff\xff", 10);
  expect_refused("ends after its file", archive.bytes());
  archive.contents = std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12);
  expect_refused("ends after its file", archive.bytes());
  archive.contents = "PICKLE";
  expect_refused("no array of NumPy", archive.bytes());
}

}  // namespace

int main() {
  test_a_grammar();
  test_an_archive();
  test_directories_that_lie();
  test_headers_that_lie();
  return failures != 0;
}
