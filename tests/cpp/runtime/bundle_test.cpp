// Opening a bundle: what is missing, damaged or foreign is found and named.
#include "runtime/bundle.h"

#include <unistd.h>

#include "expect_error.h"
#include "runtime/json_document.h"
#include "runtime/sha256.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

const fs::path kBundle = fs::path(RUBRICRM_CASES) / "engine/int4";
const char* const kFiles[] = {"genai_config.json", "model.onnx", "model.step.onnx.data",
                              "prefix.rubric.float16.safetensors", "tokenizer.json"};

// A copy of the bundle in a directory of its own.
struct Copy {
  TemporaryDirectory directory;
  fs::path path = directory.path() / "bundle";
  Copy() { fs::copy(kBundle, path); }

  void expect_invalid(const std::string& words, bool verify = false) const {
    expect_error(Code::BUNDLE_INVALID, words, [&] { Bundle::open(path, verify); });
  }
};

void test_a_whole_bundle() {
  const Bundle bundle = Bundle::open(kBundle, true);
  EXPECT(bundle.manifest().graphs.size() == 2 && bundle.manifest().graphs[0].layout == kPackedLayout, "its graphs");
  EXPECT(bundle.manifest_sha256() == sha256_hex(read_text(kBundle / kManifestName)), "its hash");
  EXPECT(bundle.manifest().has_data(bundle.manifest().graphs[0]), "the data of the first graph");
  EXPECT(!bundle.manifest().has_data(bundle.manifest().graphs[1]), "the data of the second graph");
  EXPECT(&bundle.manifest().prompt() == &bundle.manifest().prompts.at(kRubricPrompt), "its main prompt");
}

void test_what_is_not_found() {
  const TemporaryDirectory directory;
  const fs::path& path = directory.path();
  const auto expect = [&](const std::string& words, const fs::path& place) {
    expect_error(Code::BUNDLE_NOT_FOUND, words, [&] { Bundle::open(place); });
  };
  expect("none: no such directory", path / "none");
  write_text(path / "file", "text");
  expect("is a file, expected a bundle's directory", path / "file");
  expect("no rubricrm.json in it. Give a bundle", path);
  write_text(path / "config.json", "{}");
  expect("is a Hugging Face checkpoint", path);
  expect("cannot be opened", path / std::string(300, 'x'));
}

void test_damaged_files() {
  for (const std::string name : kFiles) {
    const Copy copy;
    const std::string contents = read_text(copy.path / name);
    const std::string expected = " bytes, the manifest says " + std::to_string(contents.size());
    for (const std::string& damaged : {std::string(), contents.substr(1), contents + "x"}) {
      write_text(copy.path / name, damaged);
      copy.expect_invalid(name + ": has " + std::to_string(damaged.size()) + expected);
    }
    write_text(copy.path / name, "version https://git-lfs.github.com/spec/v1\n");
    copy.expect_invalid(name + ": is a Git LFS pointer");
    std::string flipped = contents;
    flipped[flipped.size() / 2] ^= 1;
    write_text(copy.path / name, flipped);
    Bundle::open(copy.path);
    copy.expect_invalid(name + ": SHA-256 is ", true);
    fs::remove(copy.path / name);
    copy.expect_invalid(name + ": is missing");
    fs::create_directory(copy.path / name);
    copy.expect_invalid(name + ": is missing");
  }
}

void test_a_damaged_manifest() {
  const Copy copy;
  for (const std::string& contents : {std::string(), std::string("{"), std::string("{\"format\": \"\xff\"}")}) {
    write_text(copy.path / kManifestName, contents);
    copy.expect_invalid("rubricrm.json: ");
  }
}

void test_line_ends_do_not_change_the_hash() {
  const Copy copy;
  const std::string before = Bundle::open(copy.path).manifest_sha256();
  std::string text;
  for (const char c : read_text(copy.path / kManifestName)) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  write_text(copy.path / kManifestName, text);
  EXPECT(Bundle::open(copy.path).manifest_sha256() == before, "as Python reads text");
}

void test_extra_files() {
  const Copy copy;
  write_text(copy.path / ".DS_Store", "");
  fs::create_directory(copy.path / ".cache");
  Bundle::open(copy.path);
  write_text(copy.path / "notes.txt", "mine");
  fs::create_directory(copy.path / "folder");
  copy.expect_invalid("holds folder, notes.txt, which the manifest does not list");
}

void test_links_that_leave() {
  for (const std::string name : {"model.onnx", "tokenizer.json", "rubricrm.json"}) {
    const Copy copy;
    const fs::path outside = copy.directory.path() / "outside";
    fs::rename(copy.path / name, outside);
    fs::create_symlink(outside, copy.path / name);
    copy.expect_invalid(name + ": is a link that leaves the bundle");
    fs::remove(copy.path / name);
    fs::create_symlink("../outside", copy.path / name);
    copy.expect_invalid(name + ": is a link that leaves the bundle");
  }
  const Copy copy;
  fs::create_directory(copy.directory.path() / "bundle-2");
  fs::rename(copy.path / "tokenizer.json", copy.directory.path() / "bundle-2/tokenizer.json");
  fs::create_symlink("../bundle-2/tokenizer.json", copy.path / "tokenizer.json");
  copy.expect_invalid("is a link that leaves the bundle");
}

void test_links_that_stay() {
  const Copy copy;
  fs::rename(copy.path / "tokenizer.json", copy.path / ".tokenizer.json");
  fs::create_symlink(".tokenizer.json", copy.path / "tokenizer.json");
  Bundle::open(copy.path, true);
  fs::create_directory_symlink(copy.path, copy.directory.path() / "link");
  Bundle::open(copy.directory.path() / "link", true);
  fs::remove(copy.path / "tokenizer.json");
  fs::create_symlink("tokenizer.json", copy.path / "tokenizer.json");
  copy.expect_invalid("tokenizer.json: is missing");
}

// As a projected volume of Kubernetes: every file a link through ..data, which is a link to a dated folder.
void test_a_projected_volume() {
  const Copy copy;
  const fs::path dated = copy.path / "..2026_01_01";
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(copy.path)) names.push_back(entry.path().filename());
  fs::create_directory(dated);
  fs::create_directory_symlink("..2026_01_01", copy.path / "..data");
  for (const fs::path& name : names) {
    fs::rename(copy.path / name, dated / name);
    fs::create_symlink(fs::path("..data") / name, copy.path / name);
  }
  Bundle::open(copy.path, true);
}

// As the hub's client caches it: files are links to blobs.
void test_a_cache_of_the_hub() {
  const Copy copy;
  const fs::path root = copy.directory.path() / "models--org--name";
  const fs::path snapshot = root / "snapshots/0123abcd/int4", blobs = root / "blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  for (const auto& entry : fs::directory_iterator(copy.path)) {
    const fs::path name = entry.path().filename();
    fs::rename(entry.path(), blobs / name);
    fs::create_symlink(fs::path("../../../blobs") / name, snapshot / name);
  }
  Bundle::open(snapshot, true);
  const auto expect = [&](const std::string& words) {
    expect_error(Code::BUNDLE_INVALID, words, [&] { Bundle::open(snapshot); });
  };
  for (const char* name : {"model.step.onnx", "model.step.onnx.data"}) {
    fs::remove(snapshot / name);
    fs::copy(blobs / name, snapshot / name);
    expect("lies in the blobs of the hub's cache, the other does not");
    fs::remove(snapshot / name);
    fs::create_symlink(fs::path("../../../blobs") / name, snapshot / name);
  }
  fs::create_directories(copy.directory.path() / "models--org--other/blobs");
  fs::rename(blobs / "tokenizer.json", copy.directory.path() / "models--org--other/blobs/tokenizer.json");
  fs::remove(snapshot / "tokenizer.json");
  fs::create_symlink(copy.directory.path() / "models--org--other/blobs/tokenizer.json", snapshot / "tokenizer.json");
  expect("tokenizer.json: is a link that leaves the bundle");
}

void test_a_path_that_is_no_utf8() {
  const Copy copy;
  const fs::path path = copy.directory.path() / "b\xffndle";
  fs::rename(copy.path, path);
  Bundle::open(path, true);
}

}  // namespace

int main() {
  test_a_whole_bundle();
  test_what_is_not_found();
  test_damaged_files();
  test_a_damaged_manifest();
  test_line_ends_do_not_change_the_hash();
  test_extra_files();
  test_links_that_leave();
  test_links_that_stay();
  test_a_projected_volume();
  test_a_cache_of_the_hub();
  test_a_path_that_is_no_utf8();
  return failures != 0;
}
