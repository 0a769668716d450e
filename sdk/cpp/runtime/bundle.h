// A bundle on disk: open, check against its manifest, verify. Knows no ONNX Runtime.
#pragma once

#include <string>

#include "runtime/manifest.h"
#include "runtime/whole_file.h"

namespace rubricrm {

constexpr const char* kManifestName = "rubricrm.json";

// A directory whose manifest was read and whose files have the sizes that it states. A bundle is read-only: its files
// are mapped while a model is open, and must not be overwritten in place.
class Bundle {
 public:
  // `verify`: also hash every file (about 1 s a gigabyte); without it only sizes are compared. Throws
  //   BUNDLE_NOT_FOUND            no such directory, or no manifest in it;
  //   BUNDLE_INVALID              the manifest or a file contradicts the contract;
  //   BUNDLE_VERSION_UNSUPPORTED  written in another format version.
  static Bundle open(const fs::path& path, bool verify = false);

  const fs::path& path() const { return path_; }
  const Manifest& manifest() const { return manifest_; }
  // Of the bytes that were read: it names this bundle in the cache directory.
  const std::string& manifest_sha256() const { return manifest_sha256_; }
  // The path of a file listed in the manifest.
  fs::path file(const std::string& name) const { return path_ / name; }

  // Hashes every file and compares with the manifest. Throws BUNDLE_INVALID.
  void verify() const;

 private:
  Bundle(fs::path path, Manifest manifest, std::string sha256)
      : path_(std::move(path)), manifest_(std::move(manifest)), manifest_sha256_(std::move(sha256)) {}
  void check_files() const;

  fs::path path_;
  Manifest manifest_;
  std::string manifest_sha256_;
};

}  // namespace rubricrm
