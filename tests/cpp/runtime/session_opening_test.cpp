// What a session is opened from: options, libraries and files that are missing or lie, and prefixes.
#include "expect_error.h"
#include "runtime/cache_directory.h"
#include "runtime/json_document.h"
#include "runtime/prefix.h"
#include "session_of_tests.h"
#include "temporary_directory.h"

using namespace rubricrm;

namespace {

const fs::path kInt4 = path_of("tests/cases/engine/int4");

// A copy of a bundle whose manifest may be edited.
struct Copy {
  TemporaryDirectory directory;
  fs::path path = directory.path() / "bundle";
  Json manifest;

  Copy() : manifest(Json::parse(read_text(kInt4 / kManifestName))) { fs::copy(kInt4, path); }

  Bundle open() {
    for (auto& [name, facts] : manifest["files"].items()) facts["size"] = fs::file_size(path / name);
    write_text(path / kManifestName, manifest.dump());
    return Bundle::open(path);
  }
};

void expect_not_opened(Code code, const std::string& words, const Bundle& bundle, const SessionOptions& options) {
  expect_error(code, words, [&] { OnnxSession::open(bundle, options); }, words);
}

void test_options() {
  const Bundle bundle = Bundle::open(kInt4);
  SessionOptions options = options_of();
  options.device = "npu";
  expect_not_opened(Code::OPTION_INVALID, "device must be one of cpu, cuda", bundle, options);
  options.device = "cuda";
  expect_not_opened(Code::OPTION_INVALID, "was exported for cpu, cannot run on cuda", bundle, options);
  options.device = "cpu";
  options.threads = 1025;
  expect_not_opened(Code::OPTION_INVALID, "threads must be an integer from 1 to 1024, got 1025", bundle, options);
  options.threads = -1;
  expect_not_opened(Code::OPTION_INVALID, "threads must be", bundle, options);
  options = options_of();
  options.max_rows = 0;
  expect_not_opened(Code::OPTION_INVALID, "max_rows must be", bundle, options);
  options = options_of();
  options.threads = 0;
  EXPECT(OnnxSession::open(bundle, options)->threads() >= 1, "its own number of threads");
}

void test_libraries_that_are_not_there() {
  const Bundle bundle = Bundle::open(kInt4);
  SessionOptions options = options_of("model.step.onnx");
  options.onnxruntime = "/nowhere/libonnxruntime.so";
  expect_not_opened(Code::RUNTIME_MISSING, "cannot be loaded (/nowhere/libonnxruntime.so", bundle, options);
  options.onnxruntime = RUBRICRM_KERNELS_FILE;
  expect_not_opened(Code::RUNTIME_MISSING, "it lacks OrtGetApiBase", bundle, options);
  options = options_of("model.step.onnx");
  options.kernels = "/nowhere/kernels.so";
  expect_not_opened(Code::GRAPH_UNUSABLE, "the option names /nowhere/kernels.so, where there is no file", bundle,
                    options);
  options.kernels = onnxruntime_for_tests();
  expect_not_opened(Code::GRAPH_UNUSABLE, "it lacks rubricrm_kernels_operators", bundle, options);
  setenv("RUBRICRM_KERNELS", "off", 1);
  expect_not_opened(Code::GRAPH_UNUSABLE, "RUBRICRM_KERNELS is off", bundle, options_of("model.step.onnx"));
  unsetenv("RUBRICRM_KERNELS");
}

void test_a_device_that_is_not_here() {
  Copy copy;
  copy.manifest["graphs"][0]["target"] = "cuda";
  copy.manifest["graphs"][0]["kv_update"] = "shared";
  copy.manifest["graphs"][0]["layout"] = "standard";
  expect_not_opened(Code::RUNTIME_MISSING, "device cuda cannot be used: onnxruntime", copy.open(), options_of("model.step.onnx"));
}

// Data that the bundle lacks are derived, and kept where they can be trusted.
void test_derived_data() {
  Copy copy;
  const Bundle bundle = copy.open();
  const fs::path cache = copy.directory.path() / "cache";
  std::vector<std::string> warnings;
  SessionOptions options = options_of("model.onnx");
  options.cache = CacheDirectory(cache);
  options.warn = [&](const std::string& warning) { warnings.push_back(warning); };
  const auto logits = [&] {
    const auto session = OnnxSession::open(bundle, options);
    return run(*session, *session->new_slots(1, 10)[0], {5, 6, 7});
  };
  const Rows expected = logits();
  const fs::path data = cache / bundle.manifest_sha256() / "data-standard/model.onnx.data";
  const std::string bytes = read_text(data);
  EXPECT(warnings.empty() && !bytes.empty(), "%zu warnings, %zu bytes", warnings.size(), bytes.size());

  // What somebody left unfinished is made again, and hidden directories of killed processes go.
  write_text(data, "too short");
  const fs::path left = data.parent_path() / ".model.onnx.data.writing-abcdefg1";
  write_text(left / "lock", "");
  write_text(data.parent_path() / ".model.onnx.data.writing-of-another" / "lock", "");
  EXPECT(logits() == expected && read_text(data) == bytes && !fs::exists(left), "made again");
  EXPECT(fs::exists(data.parent_path() / ".model.onnx.data.writing-of-another"), "what is not ours stays");

  // Where others may write, and where nothing can be kept, they are derived for this opening alone.
  fs::permissions(cache, fs::perms::all);
  EXPECT(logits() == expected && warnings.size() == 1, "%zu warnings", warnings.size());
  EXPECT(warnings[0].find("may be written by other users") != std::string::npos, "%s", warnings[0].c_str());
  setenv("TMPDIR", "/no/such/directory", 1);
  expect_not_opened(Code::RUNTIME_FAILED, "its weights cannot be arranged in the layout standard", bundle, options);
  unsetenv("TMPDIR");
}

void test_data_that_do_not_follow() {
  Copy copy;
  SessionOptions options = options_of("model.onnx");
  options.cache = CacheDirectory(copy.directory.path() / "cache");
  fs::resize_file(copy.path / "model.step.onnx.data", 4096);
  expect_not_opened(Code::BUNDLE_INVALID, "truncated or replaced", copy.open(), options);
  for (const std::string& contents : {std::string("not a graph"), std::string(10000, '\x3a')}) {
    Copy damaged;
    write_text(damaged.path / "model.step.onnx", contents);
    expect_not_opened(Code::BUNDLE_INVALID, "model.step.onnx: is not an ONNX graph", damaged.open(), options);
  }
  Copy other;
  std::string graph = read_text(other.path / "model.step.onnx");
  for (size_t at; (at = graph.find(".packed")) != std::string::npos;) graph[at + 1] = 'q';
  write_text(other.path / "model.step.onnx", graph);
  expect_not_opened(Code::BUNDLE_INVALID, "does not follow from its tensors", other.open(), options);
}

void test_files_that_lie() {
  for (const uintmax_t size : {fs::file_size(kInt4 / "model.step.onnx.data") - 4096, uintmax_t{4096}, uintmax_t{0}}) {
    Copy copy;
    fs::resize_file(copy.path / "model.step.onnx.data", size);
    expect_not_opened(Code::RUNTIME_FAILED, "opening ", copy.open(), options_of());
  }
  for (const std::string& contents : {std::string(), std::string("not a graph"), std::string(10000, '\x0a')}) {
    Copy copy;
    write_text(copy.path / "model.step.onnx", contents);
    expect_not_opened(Code::RUNTIME_FAILED, "model.step.onnx with onnxruntime", copy.open(), options_of());
  }
  Copy copy;
  copy.manifest["graphs"][0]["kv_type"] = "int8";
  copy.manifest["prompts"]["rubric"]["prefix"]["files"] = Json::object();
  const auto session = OnnxSession::open(copy.open(), options_of());
  expect_error(Code::RUNTIME_FAILED, "", [&] { run(*session, *session->new_slots(1, 10)[0], {5}); });
}

void test_a_memory_that_is_too_large() {
  Copy copy;
  copy.manifest["model"]["context_length"] = int64_t{1} << 46;
  const auto session = OnnxSession::open(copy.open(), options_of());
  expect_error(Code::RUNTIME_FAILED, "making the KV cache", [&] { session->new_slots(64, int64_t{1} << 46); });
  expect_error(Code::RUNTIME_FAILED, "no address space", [&] { session->new_slots(1 << 20, int64_t{1} << 46); });
}

// ---- prefixes ----

void test_prefixes() {
  Copy copy;
  setenv("RUBRICRM_CACHE", (copy.directory.path() / "cache").c_str(), 1);
  const Bundle whole = Bundle::open(kInt4);
  const auto session = OnnxSession::open(whole, options_of());
  std::optional<Prefix> own = kept_prefix(whole, *session);
  EXPECT(own && own->token_ids().size() == 128, "the bundle's own");
  const TokenIds ids = own->token_ids();
  expect_error(Code::BUNDLE_INVALID, "of other tokens",
               [&] { open_prefix(whole, *session, {1, 2}, kept_prefix(whole, *session)); });

  fs::remove(copy.path / "prefix.rubric.float16.safetensors");
  copy.manifest["files"].erase("prefix.rubric.float16.safetensors");
  copy.manifest["prompts"]["rubric"]["prefix"]["files"] = Json::object();
  const Bundle without = copy.open();
  std::vector<std::string> warnings;
  const Warn warn = [&](const std::string& text) { warnings.push_back(text); };
  EXPECT(!kept_prefix(without, *session, warn), "nothing yet");
  const Prefix computed = open_prefix(without, *session, ids, std::nullopt, warn);
  const fs::path file = copy.directory.path() / "cache" / without.manifest_sha256() / session->cache_key() /
                        "prefix.rubric.float16.safetensors";
  EXPECT(fs::exists(file), "%s", file.c_str());
  std::optional<Prefix> kept = kept_prefix(without, *session, warn);
  EXPECT(kept && kept->token_ids() == ids && kept->bytes() == computed.bytes(), "kept");
  std::printf("the prefix is %s as the Python package computed it\n",
              computed.bytes() == own->bytes() ? "the same" : "not the same");
  EXPECT(warnings.empty(), "%s", warnings[0].c_str());

  // What was computed and what is restored give the same bits.
  const Slots slots = session->new_slots(2, 300);
  run(*session, *slots[0], ids);
  slots[1]->restore(kept->positions(), 128);
  EXPECT(are_same(run(*session, *slots[0], {9}), run(*session, *slots[1], {9})), "restored");

  // Damaged, of other tokens, or where others may write: computed again, with a warning.
  const std::string good = read_text(file);
  write_text(file, good.substr(0, good.size() - 1) + "x");
  EXPECT(!kept_prefix(without, *session, warn) && warnings.size() == 1, "damaged");
  open_prefix(without, *session, {7, 8, 9}, std::nullopt, warn);
  EXPECT(open_prefix(without, *session, ids, kept_prefix(without, *session, warn), warn).token_ids() == ids,
         "other tokens");
  EXPECT(warnings.size() == 2 && read_text(file) == good, "%zu warnings", warnings.size());
  fs::permissions(copy.directory.path() / "cache", fs::perms::all);
  EXPECT(!kept_prefix(without, *session, warn) && warnings.size() == 3, "where others may write");
  EXPECT(open_prefix(without, *session, ids, std::nullopt, warn).bytes() == computed.bytes(), "computed");
  EXPECT(warnings.size() == 4 && warnings[3].find("may be written by other users") != std::string::npos, "said so");
  unsetenv("RUBRICRM_CACHE");
}

void test_weights_that_are_no_numbers() {
  Copy copy;
  std::string data = read_text(copy.path / "model.step.onnx.data");
  std::fill(data.begin(), data.end(), '\x7f');
  write_text(copy.path / "model.step.onnx.data", data);
  const Bundle bundle = copy.open();
  const auto session = OnnxSession::open(bundle, options_of());
  const Slots slots = session->new_slots(1, 10);
  expect_error(Code::OUTPUT_INVALID, "of 272 logits are not finite",
               [&] { check_finite(session->step({{slots[0].get(), {5}, 1}})[0], 261); });
  expect_error(Code::OUTPUT_INVALID, "not finite", [&] { compute_prefix(bundle, *session, {5, 6}); });
}

}  // namespace

int main() {
  if (onnxruntime_for_tests().empty()) {
    std::printf("Skipped: session_opening_test (no library of ONNX Runtime: name one with RUBRICRM_ONNXRUNTIME)\n");
    return kSkipped;
  }
  test_options();
  test_libraries_that_are_not_there();
  test_a_device_that_is_not_here();
  test_derived_data();
  test_data_that_do_not_follow();
  test_files_that_lie();
  test_a_memory_that_is_too_large();
  test_prefixes();
  test_weights_that_are_no_numbers();
  return failures != 0;
}
