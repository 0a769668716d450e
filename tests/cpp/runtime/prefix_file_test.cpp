// Files of tensors, and those of prefixes: as they were written, and files that lie.
#include "runtime/prefix_file.h"

#include "expect_error.h"
#include "runtime/manifest_reader.h"
#include "runtime/safetensors.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

const fs::path kBundle = fs::path(RUBRICRM_CASES) / "engine/int4";
const fs::path kFile = kBundle / "prefix.rubric.float16.safetensors";

ModelFacts model() { return read_manifest(read_text(kBundle / "rubricrm.json"), "").model; }

std::string file_of(const std::string& header, const std::string& data) {
  std::string length;
  for (size_t n = 0; n < 8; ++n) length += static_cast<char>(header.size() >> 8 * n & 255);
  return length + header + data;
}

void expect_refused(const std::string& words, const std::string& file) {
  try {
    parse_safetensors(file);
    EXPECT(false, "no error, expected %s", words.c_str());
  } catch (const std::runtime_error& error) {
    EXPECT(std::string(error.what()).find(words) != std::string::npos, "got %s, expected %s", error.what(),
           words.c_str());
  }
}

void test_files_that_lie() {
  const auto tensor = [](const std::string& shape, const std::string& offsets, const std::string& type = "U8") {
    return "{\"a\":{\"dtype\":\"" + type + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
  };
  EXPECT(parse_safetensors(file_of(tensor("[2,2]", "[0,4]"), "abcd")).tensors.at("a").bytes == "abcd", "its bytes");
  expect_refused("too short", "1234567");
  expect_refused("its header ends after its file", file_of(std::string(10, ' '), "").substr(0, 17));
  expect_refused("its header ends after its file", std::string(16, '\xff'));
  expect_refused("parse error", file_of("{", ""));
  expect_refused("no object", file_of("[]", ""));
  expect_refused("stands twice", file_of("{\"a\":1,\"a\":1}", ""));
  expect_refused("nested too deeply", file_of("{\"a\":" + std::string(9999, '['), ""));
  expect_refused("other bytes than its shape", file_of(tensor("[5]", "[0,4]"), "abcd"));
  expect_refused("other bytes than its shape", file_of(tensor("[4]", "[0,4]", "F16"), "abcd"));
  expect_refused("other bytes than its shape", file_of(tensor("[4]", "[4,0]"), "abcd"));
  expect_refused("ends after the file", file_of(tensor("[4]", "[4,8]"), "abcd"));
  expect_refused("ends after the file", file_of(tensor("[4]", "[18446744073709551608,18446744073709551612]"), "abcd"));
  expect_refused("is no number", file_of(tensor("[-4]", "[0,4]"), "abcd"));
  expect_refused("is no number", file_of(tensor("[4]", "[-1,3]"), "abcd"));
  expect_refused("is no number", file_of(tensor("[4.0]", "[0,4]"), "abcd"));
  expect_refused("too large", file_of(tensor("[4294967296,4294967296]", "[0,0]"), "abcd"));
  expect_refused("the type F7", file_of(tensor("[4]", "[0,4]", "F7"), "abcd"));
  expect_refused("belong to no tensor", file_of(tensor("[4]", "[0,4]"), "abcde"));
  expect_refused("side by side", file_of(tensor("[3]", "[1,4]"), "abcd"));
  expect_refused("no description", file_of("{\"a\":{\"dtype\":\"U8\"}}", ""));
  expect_refused("no description", file_of("{\"a\":null}", ""));
  expect_refused("metadata", file_of("{\"__metadata__\":{\"a\":1}}", ""));
}

void test_a_prefix_is_written_as_python_writes_it() {
  const TemporaryDirectory directory;
  const Prefix prefix = Prefix::load(kFile, model(), kv_type("float16"), true);
  EXPECT(prefix.token_ids().size() == 128, "%zu tokens", prefix.token_ids().size());
  prefix.save(directory.path() / "copy", model(), kv_type("float16"));
  EXPECT(read_text(directory.path() / "copy") == read_text(kFile), "the same bytes");
  const Prefix computed(prefix.token_ids(), std::string(prefix.bytes()));
  computed.save(directory.path() / "copy", model(), kv_type("float16"));
  EXPECT(read_text(directory.path() / "copy") == read_text(kFile), "the same bytes");
  int count = 0;
  for (const auto& entry : fs::directory_iterator(directory.path())) count += entry.is_regular_file();
  EXPECT(count == 1, "%d files are left", count);
  try {
    prefix.save(directory.path() / "none/copy", model(), kv_type("float16"));
    EXPECT(false, "written into no directory");
  } catch (const FileError& error) {
    EXPECT(std::string(error.what()).find("none/copy: No such file") != std::string::npos, "%s", error.what());
  }
}

void test_prefixes_that_do_not_fit() {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "prefix";
  const std::string good = read_text(kFile);
  const auto expect = [&](const std::string& words, const std::string& contents, const char* type = "float16") {
    write_text(path, contents);
    expect_error(Code::BUNDLE_INVALID, words, [&] { Prefix::load(path, model(), kv_type(type), true); }, words);
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  std::string flipped = good, infinite = good;
  flipped[good.size() - 2] ^= 1;
  infinite[good.size() - 1] = 0x7c;
  expect("SHA-256 that it states", flipped);
  expect("1 of its keys and values are not finite", infinite);
  expect("expected positions of float32", good, "float32");
  expect("expected positions of float16", replaced("\"positions\"", "\"elsewhere\""));
  expect("expected positions of float16", replaced("\"token_ids\":\"1,1", "\"token_ids\":\"111"));
  expect("a token id is no number", replaced("\"token_ids\":\"1,", "\"token_ids\":\"x,"));
  expect("a token id is missing", replaced("\"token_ids\":\"1,", "\"token_ids\":\",,"));
  for (const size_t size : {size_t{0}, size_t{7}, size_t{8}, size_t{100}, good.size() / 2, good.size() - 1}) {
    expect("cannot be read", good.substr(0, size));
  }
  expect_error(Code::BUNDLE_INVALID, "cannot be read",
               [&] { Prefix::load(directory.path(), model(), kv_type("float16"), true); });
}

}  // namespace

int main() {
  test_files_that_lie();
  test_a_prefix_is_written_as_python_writes_it();
  test_prefixes_that_do_not_fit();
  return failures != 0;
}
