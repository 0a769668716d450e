#include "runtime/onnx_graph.h"

#include "runtime/control_group.h"
#include "runtime/mapped_file.h"

namespace rubricrm {
namespace {

constexpr int kLogErrorsOnly = 3;
constexpr const char* kDataDirectory = "session.model_external_initializers_file_folder_path";
constexpr const char* kSpinning = "session.intra_op.allow_spinning";
constexpr const char* kExactProducts = "session.x64quantprecision";

Handle<OrtSessionOptions> session_options(const OnnxRuntime& runtime, const GraphOptions& given) {
  const Runtime& api = runtime.api();
  auto options = runtime.make<OrtSessionOptions>(api.ReleaseSessionOptions,
                                                 [&](auto** out) { return api.CreateSessionOptions(out); });
  runtime.check(api.SetIntraOpNumThreads(options.get(), given.threads));
  runtime.check(api.SetInterOpNumThreads(options.get(), 1));
  runtime.check(api.SetSessionLogSeverityLevel(options.get(), kLogErrorsOnly));
  // Without VNNI, sums of products of INT8 would overflow 16 bits: results 2 to 4 % off.
  runtime.check(api.AddSessionConfigEntry(options.get(), kExactProducts, "1"));
  // A memory pattern is kept for every shape seen, and each step has a new one: the memory would never stop growing.
  runtime.check(api.DisableMemPattern(options.get()));
  if (const auto quota = cpu_quota(); quota && *quota < given.threads) {
    // A thread that spins while it waits for work uses up what the group may use, and all are stopped.
    runtime.check(api.AddSessionConfigEntry(options.get(), kSpinning, "0"));
  }
  if (!given.kernels_library.empty()) {
    runtime.check(api.RegisterCustomOpsLibrary_V2(options.get(), given.kernels_library.c_str()));
  }
  append_provider(runtime, given.device, given.provider, options.get());
  return options;
}

Handle<OrtSession> open_session(const OnnxRuntime& runtime, const fs::path& file, const GraphOptions& given) {
  const Runtime& api = runtime.api();
  const Handle<OrtSessionOptions> options = session_options(runtime, given);
  if (given.data_directory.empty()) {
    return runtime.make<OrtSession>(api.ReleaseSession, [&](auto** out) {
      return api.CreateSession(runtime.environment(), file.c_str(), options.get(), out);
    });
  }
  runtime.check(api.AddSessionConfigEntry(options.get(), kDataDirectory, given.data_directory.c_str()));
  const MappedFile graph(file);
  return runtime.make<OrtSession>(api.ReleaseSession, [&](auto** out) {
    return api.CreateSessionFromArray(runtime.environment(), graph.bytes().data(), graph.bytes().size(), options.get(),
                                      out);
  });
}

}  // namespace

OnnxGraph::OnnxGraph(std::shared_ptr<OnnxRuntime> runtime, const fs::path& file, const GraphOptions& options)
    : runtime_(std::move(runtime)),
      run_options_(runtime_->make<OrtRunOptions>(runtime_->api().ReleaseRunOptions,
                                                 [&](auto** out) { return runtime_->api().CreateRunOptions(out); })),
      session_(open_session(*runtime_, file, options)) {}

Handle<OrtIoBinding> OnnxGraph::new_binding() const {
  return runtime_->make<OrtIoBinding>(runtime_->api().ReleaseIoBinding,
                                      [&](auto** out) { return runtime_->api().CreateIoBinding(session_.get(), out); });
}

void OnnxGraph::run(const OrtIoBinding* binding) const {
  runtime_->check(runtime_->api().RunWithBinding(session_.get(), run_options_.get(), binding));
}

void OnnxGraph::stop() const { runtime_->check(runtime_->api().RunOptionsSetTerminate(run_options_.get())); }

}  // namespace rubricrm
