// A session over ONNX Runtime: a bundle's graph on a device. Implements the contract of session.h.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/bundle.h"
#include "runtime/cache_directory.h"
#include "runtime/graph_choice.h"
#include "runtime/onnx_arena.h"
#include "runtime/onnx_graph.h"
#include "runtime/session.h"
#include "runtime/warn.h"

namespace rubricrm {

struct SessionOptions {
  std::string device;      // empty: the best graph whose device is here
  int threads = 0;         // of one run; 0: the cores that this process may really use
  int max_rows = 256;      // most tokens of one step
  fs::path onnxruntime;    // library of ONNX Runtime; empty: as OnnxRuntime::load
  fs::path kernels;        // library of kernels; empty: as find_kernels
  CacheDirectory cache;    // for what belongs to this machine
  Warn warn;               // while it is opened
  std::string graph_file;  // the only graph that is wanted; empty: any
};

// Keys and values lie in the host's memory: on a CPU they are never copied; on a GPU the runtime copies them in each
// run (not run there). Steps from several threads wait for one another.
class OnnxSession : public Session {
 public:
  // Opens the best graph of a bundle: milliseconds where packed weights are mapped; ONNX Runtime repacks those of a 4B
  // model in seconds, and weights in another layout than the bundle's are derived once. Throws
  //   BUNDLE_INVALID   data that others are derived from are damaged, or of another model;
  //   GRAPH_UNUSABLE   the bundle has no graph that this version can run here;
  //   OPTION_INVALID   unknown device, one that the bundle was not exported for, or a number out of range;
  //   RUNTIME_MISSING  there is no ONNX Runtime, or not what the device needs;
  //   RUNTIME_FAILED   ONNX Runtime refused the graph.
  static std::unique_ptr<OnnxSession> open(const Bundle& bundle, const SessionOptions& options = {});
  ~OnnxSession() override;

  const GraphFacts& facts() const { return facts_; }
  const std::string& device() const { return device_; }
  int threads() const { return threads_; }
  // "rubricrm avx2", say, or "onnxruntime (REASON)".
  const std::string& kernels() const { return kernels_; }
  // Names all that keys and values, or engines, of this graph depend on beside the bundle; the same as Python's.
  const std::string& cache_key() const { return cache_key_; }
  const CacheDirectory& cache() const { return cache_; }
  // A copy of a slot's first positions, as a prefix file holds them. They must not be borrowed.
  std::string positions(const Slot& slot, int64_t length) const;

  int max_rows() const override { return max_rows_; }
  bool takes_any_mix() const override { return kv_update(facts_.kv_update).takes_any_mix; }
  bool is_exact() const override { return takes_any_mix() && facts_.layout == kPackedLayout; }
  int64_t position_bytes() const override;
  std::vector<std::unique_ptr<Slot>> new_slots(int count, int64_t num_positions) override;
  std::vector<Logits> step(const std::vector<Chunk>& chunks) override;
  void close() override;
  void check_open() const override;

 private:
  OnnxSession(const Bundle& bundle, GraphChoice choice, const SessionOptions& options);
  void open_graph(const Bundle& bundle, std::shared_ptr<OnnxRuntime> runtime, const Kernels& kernels, const Warn& warn);
  std::shared_ptr<OnnxArena> new_arena(int64_t count, int64_t num_positions);
  void check_step(const std::vector<Chunk>& chunks) const;
  void run(const std::vector<Chunk>& chunks, const std::vector<size_t>& group, std::vector<Logits>& found);
  [[noreturn]] void fail(const std::string& what) const;

  const std::string where_;  // the bundle's path
  const ModelFacts model_;
  const GraphFacts facts_;
  const std::string device_;
  const int threads_, max_rows_, process_;
  const CacheDirectory cache_;
  std::string kernels_, cache_key_;
  std::atomic<bool> is_closed_{false};
  std::mutex mutex_;  // of all that runs, and of what follows
  std::shared_ptr<OnnxGraph> graph_;
  std::vector<std::weak_ptr<OnnxArena>> arenas_;
};

}  // namespace rubricrm
