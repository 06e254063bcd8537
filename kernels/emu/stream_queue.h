#pragma once

// The work queued on the emulated device, as cudart_*.cpp see it: streams, events, graphs and what waits for
// what, with the semantics of the CUDA C++ Programming Guide 13.0 ("Asynchronous Concurrent Execution", "CUDA
// Graphs", "Stream Ordered Memory Allocator"). Every operation knows what it has to wait for; the schedule
// decides among those whose turn has come.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"

namespace cairn::emu {

/// Of each stream, the last operation known to be complete: what is ordered before something by the rules of
/// streams, events and host waits, whatever order things happened to run in.
using Clock = std::map<std::uint32_t, std::uint64_t>;

void merge(Clock& into, const Clock& other);

/// One queued piece of work.
struct Op {
  std::string name;
  std::function<void()> run;
  std::function<bool()> may_run;  // what it needs beyond `after`, of other processes or threads; or empty
  std::vector<std::shared_ptr<Op>> after;
  Clock clock;  // itself included
  std::uint32_t id = 0;
  int device = 0;
  bool again = false;  // set by a run that has left a part for another turn
  bool done = false;

  bool ready() const {
    return std::all_of(after.begin(), after.end(), [](const auto& op) { return op->done; }) &&
           (!may_run || may_run());
  }
};
using OpPtr = std::shared_ptr<Op>;

/// A node of a captured graph; `after` are indices of earlier nodes.
struct GraphNode {
  std::string name;
  std::function<void()> run;
  std::function<bool()> may_run;  // or empty
  std::vector<std::size_t> after;
};

}  // namespace cairn::emu

// CUDA's own opaque types, so outside the namespace.
struct CUgraph_st {
  std::vector<cairn::emu::GraphNode> nodes;
  bool invalidated = false;  // its capture met a call that no capture allows, and can only be ended
};
struct CUgraphExec_st {
  std::vector<cairn::emu::GraphNode> nodes;
};
struct CUevent_st {
  cairn::emu::OpPtr recorded;   // null: nothing recorded, counts as complete
  CUgraph_st* graph = nullptr;  // recorded in a capture: the node behind which it stands
  std::vector<std::size_t> nodes;
  int device = 0;
};
struct CUstream_st {
  std::uint32_t number = 0;
  int device = 0;
  std::uint64_t ticks = 0;
  bool blocking = true;  // ordered against the legacy default stream
  cairn::emu::OpPtr last;
  std::vector<cairn::emu::OpPtr> pending_waits;  // events waited for by the next operation
  std::shared_ptr<CUgraph_st> capture;
  bool capture_origin = false;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;  // of the origin
  std::vector<std::size_t> capture_tail;  // nodes that the next captured operation follows
};

namespace cairn::emu {

/// Recursive, and given up whole while nothing that is wanted may run yet.
class RuntimeMutex {
 public:
  void lock() {
    mutex_.lock();
    ++depth_;
  }
  void unlock() {
    --depth_;
    mutex_.unlock();
  }
  /// Lets other threads queue and run work. The owner calls it.
  void yield();

 private:
  std::recursive_mutex mutex_;
  int depth_ = 0;
};

struct Runtime {
  RuntimeMutex mutex;
  CUstream_st legacy;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::vector<OpPtr> pending;
  Op* current = nullptr;                      // while it runs
  std::map<const char*, std::size_t> pinned;  // begin -> bytes
  Clock host;                                 // what the host has waited for
  std::map<int, Clock> destroyed;  // by device: last operations of streams that are gone, whose work it
                                   // still does
  int devices = 1;
  std::uint32_t stream_numbers = 1;                                     // the legacy stream is 0
  std::vector<std::pair<std::uint32_t, std::uint64_t>> operations{{}};  // of each id: stream and tick
  Schedule schedule = Schedule::eager;
  std::mt19937_64 random{0};
  CallCounts counts;
  bool recording = false;
  std::vector<std::string> executed;

  /// Takes the schedule from CAIRN_EMU_SCHEDULE: late, or random with a seed behind a colon; and the number
  /// of devices from CAIRN_EMU_DEVICES.
  Runtime() {
    if (const char* count = std::getenv("CAIRN_EMU_DEVICES")) devices = std::max(1, std::atoi(count));
    const char* wanted = std::getenv("CAIRN_EMU_SCHEDULE");
    if (!wanted) return;
    const std::string text = wanted;
    if (text == "late") schedule = Schedule::late;
    if (text.starts_with("random")) {
      schedule = Schedule::random;
      if (text.size() > 7) random.seed(std::strtoull(text.c_str() + 7, nullptr, 10));
    }
  }
};

Runtime& runtime();

using Lock = std::lock_guard<RuntimeMutex>;

/// Sets what cudaGetLastError returns to this thread, and returns it.
cudaError_t fail(cudaError_t error);

/// The error that fail() set last in this thread; success from then on if `clear`.
cudaError_t last_error(bool clear);

/// The host waits for `target`, which may be null, and so knows it, and all before it, to be complete.
void wait_for(Runtime& r, const OpPtr& target);

/// The host waits for everything that this device was given.
void wait_for_device(Runtime& r, int device);

/// The device that the calling thread chose last.
int& current_device();

/// The stream's state, the legacy stream's for null; null for a handle that is none.
CUstream_st* resolve(Runtime& r, cudaStream_t stream);

/// Whether `p` lies in memory from cudaHostAlloc.
bool is_pinned(Runtime& r, const void* p);

/// An id for something that runs as (part of) the operation at `tick` of `stream`.
std::uint32_t new_operation(Runtime& r, std::uint32_t stream, std::uint64_t tick);

/// Whether the operation `earlier` (an id) is ordered before whatever has this clock.
bool covers(Runtime& r, const Clock& clock, std::uint32_t earlier);

/// Queues `run` behind what the stream has to wait for.
OpPtr enqueue(Runtime& r, CUstream_st& s, std::string name, std::function<void()> run,
              std::function<bool()> may_run = {});

/// Queues, or adds to the graph that the stream is captured into.
cudaError_t submit(cudaStream_t stream, std::string name, std::function<void()> run,
                   std::function<bool()> may_run = {});

/// A call that no capture allows: an error, and the end of the capture that `s` takes part in.
cudaError_t refuse_in_capture(CUstream_st& s);

/// Whether any stream is being captured.
bool any_capture(Runtime& r);

/// Whether a capture forbids calls that may wait for the device, such as cudaMalloc: all modes but relaxed
/// do.
bool capture_forbids(Runtime& r);

/// A fault that a kernel met comes back from the next call that waits, as on a device.
cudaError_t device_error();

}  // namespace cairn::emu
