#include "runtime/onnx_session.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>

#include "error.h"
#include "runtime/derived_data.h"
#include "runtime/kernels.h"
#include "runtime/machine.h"
#include "runtime/onnx_slot.h"

namespace rubricrm {
namespace {

constexpr int kMostThreads = 1024, kMostRows = 1 << 20;

void require_count(const char* name, int value, int most) {
  if (1 <= value && value <= most) return;
  throw Error(Code::OPTION_INVALID, std::string(name) + " must be an integer from 1 to " + std::to_string(most) +
                                        ", got " + std::to_string(value) + ".");
}

std::string processor() {
  utsname names;
  return uname(&names) == 0 ? names.machine : "";
}

const OnnxSlot& slot_of(const Chunk& chunk) { return static_cast<const OnnxSlot&>(*chunk.slot); }

std::vector<GraphFacts> wanted_graphs(const Bundle& bundle, const std::string& file) {
  std::vector<GraphFacts> graphs;
  for (const GraphFacts& graph : bundle.manifest().graphs) {
    if (file.empty() || file == graph.file) graphs.push_back(graph);
  }
  return graphs;
}

// The directory in which TensorRT's engines are kept; empty where there is no cache.
fs::path engine_directory(const CacheDirectory& cache, const Bundle& bundle, const std::string& device,
                          const std::string& cache_key) {
  if (device != "tensorrt" && device != "tensorrt-rtx") return {};
  try {
    return cache.own(fs::path(bundle.manifest_sha256()) / cache_key / "engines");
  } catch (const FileError&) {
    return {};
  }
}

// Chunks of each arena, as their numbers, in their order.
std::vector<std::vector<size_t>> by_arena(const std::vector<Chunk>& chunks) {
  std::vector<std::vector<size_t>> groups;
  for (size_t n = 0; n < chunks.size(); ++n) {
    const OnnxArena* arena = &slot_of(chunks[n]).arena();
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const std::vector<size_t>& other) {
      return &slot_of(chunks[other[0]]).arena() == arena;
    });
    if (group == groups.end()) {
      groups.push_back({n});
    } else {
      group->push_back(n);
    }
  }
  return groups;
}

}  // namespace

std::unique_ptr<OnnxSession> OnnxSession::open(const Bundle& bundle, const SessionOptions& options) {
  if (!options.device.empty()) targets_of(options.device);
  if (options.threads != 0) require_count("threads", options.threads, kMostThreads);
  require_count("max_rows", options.max_rows, kMostRows);
  const std::shared_ptr<OnnxRuntime> runtime = OnnxRuntime::load(options.onnxruntime);
  const Kernels kernels = find_kernels(options.kernels);
  const Surroundings surroundings{kernels, [&](const std::string& name) { return device_problem(*runtime, name); }};
  const std::vector<GraphFacts> graphs = wanted_graphs(bundle, options.graph_file);
  GraphChoice choice = choose_graph(graphs, options.device, bundle.path().string(), surroundings);
  std::unique_ptr<OnnxSession> session(new OnnxSession(bundle, std::move(choice), options));
  session->open_graph(bundle, runtime, kernels, options.warn);
  return session;
}

OnnxSession::OnnxSession(const Bundle& bundle, GraphChoice choice, const SessionOptions& options)
    : where_(bundle.path().string()),
      model_(bundle.manifest().model),
      facts_(std::move(choice.graph)),
      device_(std::move(choice.device)),
      threads_(options.threads != 0 ? options.threads : usable_cores()),
      max_rows_(options.max_rows),
      process_(getpid()),
      cache_(options.cache) {}

void OnnxSession::open_graph(const Bundle& bundle, std::shared_ptr<OnnxRuntime> runtime, const Kernels& kernels,
                             const Warn& warn) {
  kernels_ = running_kernels(facts_, bundle.manifest().graphs, kernels);
  cache_key_ =
      device_ + "-" + facts_.file + "-" + facts_.kv_type + "-onnxruntime-" + runtime->version() + "-" + processor();
  GraphOptions options{device_, threads_, {}, {}, {}};
  const fs::path engines = engine_directory(cache_, bundle, device_, cache_key_);
  options.provider = provider_options(device_, model_, max_rows_, engines);
  const DataDirectory data(bundle, facts_, cache_, warn);
  if (data.path() != bundle.path()) options.data_directory = data.path();
  if (facts_.required.library) options.kernels_library = kernels.library;
  const fs::path file = bundle.file(facts_.file);
  const std::string what = file.string() + " with onnxruntime " + runtime->version() + ": ";
  try {
    graph_ = std::make_shared<OnnxGraph>(std::move(runtime), file, options);
  } catch (const std::runtime_error& error) {
    throw Error(Code::RUNTIME_FAILED, "opening " + what + error.what());
  }
}

OnnxSession::~OnnxSession() {
  if (process_ == getpid()) {
    close();
  } else {
    // The threads of the runtime are not in a fork: destroying what they slept on would wait for them for ever.
    new std::shared_ptr<OnnxGraph>(std::move(graph_));
  }
}

int64_t OnnxSession::position_bytes() const { return bytes_per_position(model_, kv_type(facts_.kv_type)); }

std::string OnnxSession::positions(const Slot& slot, int64_t length) const {
  const auto& own = static_cast<const OnnxSlot&>(slot);
  return own.arena().memory().read(own.number(), std::min(length, own.length()));
}

std::shared_ptr<OnnxArena> OnnxSession::new_arena(int64_t count, int64_t num_positions) {
  const auto arena = std::make_shared<OnnxArena>(*graph_, facts_, model_, count, num_positions, max_rows_);
  arenas_.erase(std::remove_if(arenas_.begin(), arenas_.end(), [](const auto& known) { return known.expired(); }),
                arenas_.end());
  arenas_.push_back(arena);
  return arena;
}

std::vector<std::unique_ptr<Slot>> OnnxSession::new_slots(int count, int64_t num_positions) {
  check_open();
  const std::lock_guard<std::mutex> lock(mutex_);
  check_open();
  std::vector<std::unique_ptr<Slot>> slots;
  if (count < 1) return slots;
  try {
    const int64_t per_arena = takes_any_mix() ? count : 1;
    for (int64_t made = 0; made < count; made += per_arena) {
      const auto arena = new_arena(per_arena, std::max<int64_t>(num_positions, 1));
      for (int64_t n = 0; n < per_arena; ++n) slots.push_back(std::make_unique<OnnxSlot>(arena, n));
    }
  } catch (const std::runtime_error& error) {
    throw Error(Code::RUNTIME_FAILED, "making the KV cache of " + where_ + ": " + error.what());
  }
  return slots;
}

std::vector<Logits> OnnxSession::step(const std::vector<Chunk>& chunks) {
  check_open();
  check_step(chunks);
  const std::lock_guard<std::mutex> lock(mutex_);
  check_open();
  std::vector<Logits> found(chunks.size());
  for (const std::vector<size_t>& group : by_arena(chunks)) {
    try {
      run(chunks, group, found);
    } catch (const RuntimeRefusal& error) {
      if (is_closed_) {
        throw Error(Code::MODEL_CLOSED, where_ + ": the model was closed during a step. Open it again.");
      }
      fail(error.what());
    }
  }
  return found;
}

void OnnxSession::run(const std::vector<Chunk>& chunks, const std::vector<size_t>& group, std::vector<Logits>& found) {
  const int64_t least = kv_update(facts_.kv_update).least_rows;
  std::vector<Part> parts;
  for (const size_t n : group) {
    const Chunk& chunk = chunks[n];
    parts.push_back(
        {slot_of(chunk).number(), &chunk.token_ids, chunk.slot->length(), std::max<int64_t>(chunk.num_logits, least)});
  }
  const float* row = slot_of(chunks[group[0]]).arena().run(*graph_, parts);
  for (size_t n = 0; n < group.size(); ++n) {
    const Chunk& chunk = chunks[group[n]];
    static_cast<OnnxSlot*>(chunk.slot)->advance(static_cast<int64_t>(chunk.token_ids.size()));
    row += (parts[n].rows - chunk.num_logits) * model_.vocab_size;
    found[group[n]] = {row, chunk.num_logits, model_.vocab_size};
    row += chunk.num_logits * model_.vocab_size;
  }
}

void OnnxSession::check_step(const std::vector<Chunk>& chunks) const {
  int64_t total = 0;
  for (size_t n = 0; n < chunks.size(); ++n) {
    const Chunk& chunk = chunks[n];
    const auto count = static_cast<int64_t>(chunk.token_ids.size());
    const int64_t length = chunk.slot->length(), capacity = chunk.slot->capacity();
    if (count == 0 || chunk.num_logits < 0 || chunk.num_logits > count || count > capacity - length) {
      fail("logits of " + std::to_string(chunk.num_logits) + " of " + std::to_string(count) + " tokens after " +
           std::to_string(length) + " in a cache of " + std::to_string(capacity) + ". Make a larger slot.");
    }
    for (const int32_t id : chunk.token_ids) {
      if (id < 0 || id >= model_.vocab_size) {
        fail("token " + std::to_string(id) + ", expected ids from 0 to " + std::to_string(model_.vocab_size - 1) + ".");
      }
    }
    for (size_t other = 0; other < n; ++other) {
      if (chunks[other].slot == chunk.slot) fail("two chunks of one slot in a step, expected one. Join them.");
    }
    total += count;
  }
  if (total > max_rows_) {
    fail(std::to_string(total) + " tokens in one step, expected at most " + std::to_string(max_rows_) +
         ". Run them in parts, or open the session with a larger max_rows.");
  }
}

void OnnxSession::fail(const std::string& what) const {
  throw Error(Code::RUNTIME_FAILED, "running " + where_ + ": " + what);
}

void OnnxSession::close() {
  if (process_ != getpid()) return;
  const bool is_first = !is_closed_.exchange(true);
  if (is_first && graph_ != nullptr) graph_->stop();
  const std::lock_guard<std::mutex> lock(mutex_);  // the step in progress holds the graph
  if (!is_first) return;
  for (const std::weak_ptr<OnnxArena>& known : arenas_) {
    if (const auto arena = known.lock()) arena->unbind();
  }
  arenas_.clear();
  graph_.reset();
}

void OnnxSession::check_open() const {
  // The threads of the runtime do not survive a fork: a run would wait for them for ever.
  if (process_ != getpid()) {
    throw Error(Code::MODEL_CLOSED, where_ + ": was opened in process " + std::to_string(process_) +
                                        " and cannot be used in its fork " + std::to_string(getpid()) +
                                        ". Open the model after the fork, or start the program again.");
  }
  if (is_closed_) throw Error(Code::MODEL_CLOSED, where_ + ": the model was closed. Open it again.");
}

}  // namespace rubricrm
