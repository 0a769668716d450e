#include "runtime/bundle.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "error.h"
#include "runtime/bundle_links.h"
#include "runtime/manifest_reader.h"
#include "runtime/mapped_file.h"
#include "runtime/sha256.h"

namespace rubricrm {
namespace {

constexpr std::string_view kLfsPointer = "version https://git-lfs";

[[noreturn]] void invalid(const fs::path& path, const std::string& what) {
  throw Error(Code::BUNDLE_INVALID, path.string() + ": " + what);
}

[[noreturn]] void not_found(const fs::path& path, const std::string& what) {
  throw Error(Code::BUNDLE_NOT_FOUND, path.string() + ": " + what);
}

// Line ends as Python's text files have them: the manifest's hash is of these bytes.
std::string with_plain_line_ends(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (size_t n = 0; n < text.size(); ++n) {
    if (text[n] != '\r') {
      result += text[n];
    } else {
      result += '\n';
      if (n + 1 < text.size() && text[n + 1] == '\n') ++n;
    }
  }
  return result;
}

void require_directory(const fs::path& path) {
  std::error_code error;
  const fs::file_status found = fs::status(path, error);
  if (found.type() == fs::file_type::not_found && path.native().find('\0') == std::string::npos) {
    not_found(path, "no such directory. Give a bundle made by `rubricrm export onnx`.");
  }
  if (!fs::status_known(found)) {  // a name that is too long, a parent that may not be searched
    not_found(path, "cannot be opened (" + error.message() + "). Give a bundle's directory.");
  }
  if (found.type() != fs::file_type::directory) not_found(path, "is a file, expected a bundle's directory.");
}

std::string read_manifest_text(const fs::path& path) {
  require_directory(path);
  const fs::path manifest = path / kManifestName;
  std::error_code error;
  if (!fs::is_regular_file(manifest, error)) {
    const bool is_checkpoint = fs::exists(path / "config.json", error);
    not_found(path,
              std::string("no ") + kManifestName + " in it. " +
                  (is_checkpoint ? "This is a Hugging Face checkpoint: export it first with `rubricrm export onnx`."
                                 : "Give a bundle made by `rubricrm export onnx`."));
  }
  check_link(manifest);
  try {
    return with_plain_line_ends(read_file(manifest));
  } catch (const FileError& failed) {
    invalid(manifest, std::string("cannot be read (") + failed.what() + "). Copy or export the bundle again.");
  }
}

bool is_lfs_pointer(const fs::path& path) {
  try {
    return MappedFile(path).bytes().substr(0, kLfsPointer.size()) == kLfsPointer;
  } catch (const FileError&) {
    return false;
  }
}

void check_file(const fs::path& path, const FileFacts& expected) {
  check_link(path);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    invalid(path, "is missing, the manifest lists it. Copy or export the bundle again.");
  }
  const uintmax_t size = fs::file_size(path, error);
  if (!error && size == static_cast<uintmax_t>(expected.size)) return;
  if (is_lfs_pointer(path)) invalid(path, "is a Git LFS pointer, not the file. Run `git lfs pull`.");
  invalid(path, "has " + std::to_string(size) + " bytes, the manifest says " + std::to_string(expected.size) +
                    ": truncated or replaced. Copy or export the bundle again.");
}

// Names of a directory that are not hidden: those are the file manager's business, and nothing reads them.
std::vector<std::string> entries(const fs::path& path) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name[0] != '.') names.push_back(name);
  }
  if (error) invalid(path, "cannot be listed (" + error.message() + "). Change the directory's permissions.");
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Bundle Bundle::open(const fs::path& path, bool verify) {
  const std::string text = read_manifest_text(path);
  Bundle bundle(path, read_manifest(text, (path / kManifestName).string()), sha256_hex(text));
  bundle.check_files();
  if (verify) bundle.verify();
  return bundle;
}

void Bundle::check_files() const {
  for (const auto& [name, expected] : manifest_.files) check_file(file(name), expected);
  for (const GraphFacts& graph : manifest_.graphs) {
    if (graph.data_file && manifest_.has_data(graph)) check_pair(file(graph.file), file(*graph.data_file));
  }
  std::string extra;
  int count = 0;
  for (const std::string& name : entries(path_)) {
    if (name == kManifestName || manifest_.files.count(name) != 0 || ++count > 3) continue;
    extra += (extra.empty() ? "" : ", ") + name;
  }
  if (!extra.empty()) {
    invalid(path_, "holds " + extra +
                       ", which the manifest does not list. A bundle holds its own files only: move "
                       "others elsewhere.");
  }
}

void Bundle::verify() const {
  for (const auto& [name, expected] : manifest_.files) {
    std::string digest;
    try {
      digest = file_sha256(file(name));
    } catch (const FileError& error) {
      invalid(file(name), std::string("cannot be read (") + error.what() + "). Copy the bundle again.");
    }
    if (digest == expected.sha256) continue;
    invalid(file(name), "SHA-256 is " + digest + ", the manifest says " + expected.sha256 +
                            ": the file was changed or damaged. Copy or export the bundle again.");
  }
}

}  // namespace rubricrm
