// A stand-in for the CUDA runtime on the host: CUDA's public API, declared by CUDA's own header, with the
// semantics of the CUDA C++ Programming Guide 13.0 ("Asynchronous Concurrent Execution", "CUDA Graphs",
// "Stream Ordered Memory Allocator"). Every operation knows what it has to wait for; the schedule decides
// among those whose turn has come.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <utility>

#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"

namespace {

using cairn::emu::CallCounts;
using cairn::emu::Schedule;

/// Of each stream, the last operation known to be complete: what is ordered before something by the rules of
/// streams, events and host waits, whatever order things happened to run in.
using Clock = std::map<std::uint32_t, std::uint64_t>;

void merge(Clock& into, const Clock& other) {
  for (const auto& [stream, tick] : other) into[stream] = std::max(into[stream], tick);
}

/// One queued piece of work.
struct Op {
  std::string name;
  std::function<void()> run;
  std::vector<std::shared_ptr<Op>> after;
  Clock clock;  // itself included
  std::uint32_t id = 0;
  bool done = false;

  bool ready() const {
    return std::all_of(after.begin(), after.end(), [](const auto& op) { return op->done; });
  }
};
using OpPtr = std::shared_ptr<Op>;

/// A node of a captured graph; `after` are indices of earlier nodes.
struct GraphNode {
  std::string name;
  std::function<void()> run;
  std::vector<std::size_t> after;
};

}  // namespace

struct CUgraph_st {
  std::vector<GraphNode> nodes;
};
struct CUgraphExec_st {
  std::vector<GraphNode> nodes;
};
struct CUevent_st {
  OpPtr recorded;               // null: nothing recorded, counts as complete
  CUgraph_st* graph = nullptr;  // recorded in a capture: the node behind which it stands
  std::vector<std::size_t> nodes;
};
struct CUstream_st {
  std::uint32_t number = 0;
  std::uint64_t ticks = 0;
  bool blocking = true;  // ordered against the legacy default stream
  OpPtr last;
  std::vector<OpPtr> pending_waits;  // events waited for by the next operation
  std::shared_ptr<CUgraph_st> capture;
  bool capture_origin = false;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;  // of the origin
  std::vector<std::size_t> capture_tail;  // nodes that the next captured operation follows
};

namespace {

struct Runtime {
  std::recursive_mutex mutex;
  CUstream_st legacy;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::vector<OpPtr> pending;
  const Op* current = nullptr;                                          // while it runs
  std::map<const char*, std::size_t> pinned;                            // begin -> bytes
  Clock host;                                                           // what the host has waited for
  std::uint32_t stream_numbers = 1;                                     // the legacy stream is 0
  std::vector<std::pair<std::uint32_t, std::uint64_t>> operations{{}};  // of each id: stream and tick
  Schedule schedule = Schedule::eager;
  std::mt19937_64 random{0};
  CallCounts counts;
  bool recording = false;
  std::vector<std::string> executed;

  Runtime() {
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

/// Never destroyed: device memory is given back from static destructors too.
Runtime& runtime() {
  static auto& r = *new Runtime;
  return r;
}

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t fail(cudaError_t error) {
  last_error = error;
  return error;
}

using Lock = std::lock_guard<std::recursive_mutex>;

/// An id for something that runs as (part of) the operation at `tick` of `stream`.
std::uint32_t new_operation(Runtime& r, std::uint32_t stream, std::uint64_t tick) {
  r.operations.emplace_back(stream, tick);
  return static_cast<std::uint32_t>(r.operations.size() - 1);
}

bool covers(Runtime& r, const Clock& clock, std::uint32_t earlier) {
  const auto& [stream, tick] = r.operations[earlier];
  const auto it = clock.find(stream);
  return it != clock.end() && it->second >= tick;
}

void run_now(Runtime& r, const OpPtr& op) {
  if (op->run) {
    cairn::emu::begin_operation(op->id, op->name.c_str(),
                                [&r, &op](std::uint32_t e) { return covers(r, op->clock, e); });
    r.current = op.get();
    op->run();
    cairn::emu::end_operation();
  }
  op->run = nullptr;
  op->done = true;
  op->after.clear();
  if (r.recording && !op->name.empty()) r.executed.push_back(op->name);
  std::erase(r.pending, op);
}

/// Operations that must run before `target`, itself included.
void collect_needed(const OpPtr& target, std::set<Op*>& needed) {
  std::vector<Op*> stack{target.get()};
  while (!stack.empty()) {
    Op* op = stack.back();
    stack.pop_back();
    if (op->done || !needed.insert(op).second) continue;
    for (const OpPtr& before : op->after) stack.push_back(before.get());
  }
}

/// Runs queued work until `target` is done.
void drive(Runtime& r, const OpPtr& target) {
  while (!target->done) {
    std::set<Op*> needed;
    if (r.schedule != Schedule::random) collect_needed(target, needed);
    std::vector<OpPtr> ready;
    for (const OpPtr& op : r.pending)
      if (op->ready() && (r.schedule == Schedule::random || needed.contains(op.get()))) ready.push_back(op);
    // Dependencies point to older operations only, so something is always ready.
    run_now(r, ready[r.schedule == Schedule::random ? r.random() % ready.size() : 0]);
  }
}

/// The host waits for `target` and so knows it, and all before it, to be complete.
void wait_for(Runtime& r, const OpPtr& target) {
  if (!target) return;
  drive(r, target);
  merge(r.host, target->clock);
}

/// The host waits for everything.
void wait_for_all(Runtime& r) {
  while (!r.pending.empty()) drive(r, OpPtr(r.pending.back()));
  r.host[r.legacy.number] = r.legacy.ticks;
  for (const CUstream_st* s : r.streams) r.host[s->number] = s->ticks;
}

CUstream_st* resolve(Runtime& r, cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return &r.legacy;
  return r.streams.contains(stream) ? stream : nullptr;
}

/// What an operation queued now on `s` has to wait for: its stream, events, and the legacy stream's rule: it
/// waits for all blocking streams, and they for it.
std::vector<OpPtr> dependencies(Runtime& r, CUstream_st& s) {
  std::vector<OpPtr> after = std::move(s.pending_waits);
  s.pending_waits.clear();
  if (s.last) after.push_back(s.last);
  if (&s == &r.legacy) {
    for (CUstream_st* other : r.streams)
      if (other->blocking && other->last) after.push_back(other->last);
  } else if (s.blocking && r.legacy.last) {
    after.push_back(r.legacy.last);
  }
  return after;
}

OpPtr enqueue(Runtime& r, CUstream_st& s, std::string name, std::function<void()> run) {
  auto op = std::make_shared<Op>();
  op->name = std::move(name);
  op->run = std::move(run);
  op->after = dependencies(r, s);
  op->clock = r.host;
  for (const OpPtr& before : op->after) merge(op->clock, before->clock);
  op->clock[s.number] = ++s.ticks;
  op->id = new_operation(r, s.number, s.ticks);
  std::erase_if(op->after, [](const OpPtr& before) { return before->done; });
  s.last = op;
  r.pending.push_back(op);
  if (r.schedule == Schedule::eager) drive(r, op);
  // Now and then a random operation gets its turn early.
  if (r.schedule == Schedule::random && r.random() % 4 == 0) {
    std::vector<OpPtr> ready;
    for (const OpPtr& p : r.pending)
      if (p->ready()) ready.push_back(p);
    if (!ready.empty()) run_now(r, ready[r.random() % ready.size()]);
  }
  return op;
}

/// Queues, or adds to the graph that the stream is captured into.
cudaError_t submit(cudaStream_t stream, std::string name, std::function<void()> run) {
  Runtime& r = runtime();
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    s->capture->nodes.push_back({std::move(name), std::move(run), s->capture_tail});
    s->capture_tail = {s->capture->nodes.size() - 1};
    return cudaSuccess;
  }
  if (s == &r.legacy &&
      std::any_of(r.streams.begin(), r.streams.end(), [](auto* o) { return o->capture && o->blocking; }))
    return fail(cudaErrorStreamCaptureImplicit);
  enqueue(r, *s, std::move(name), std::move(run));
  return cudaSuccess;
}

bool any_capture(Runtime& r) {
  return std::any_of(r.streams.begin(), r.streams.end(), [](auto* s) { return s->capture != nullptr; });
}

/// Whether a capture forbids calls that may wait for the device, such as cudaMalloc: all modes but relaxed
/// do.
bool capture_forbids(Runtime& r) {
  return std::any_of(r.streams.begin(), r.streams.end(), [](auto* s) {
    return s->capture_origin && s->capture_mode != cudaStreamCaptureModeRelaxed;
  });
}

bool is_pinned(Runtime& r, const void* p) {
  const auto* at = static_cast<const char*>(p);
  auto it = r.pinned.upper_bound(at);
  if (it == r.pinned.begin()) return false;
  --it;
  return at < it->first + it->second;
}

constexpr int kPinnedPoison = 0xDB;

/// A fault that a kernel met comes back from the next call that waits, as on a device.
cudaError_t device_error() {
  const cudaError_t error = cairn::emu::take_device_error();
  return error == cudaSuccess ? error : fail(error);
}

/// Whether [p, p+bytes) lies inside one live device allocation.
bool device_range_ok(const void* p, std::size_t bytes) { return cairn::emu::device_range_valid(p, bytes); }

cudaError_t copy_async(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind,
                       cudaStream_t stream, bool synchronous) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  const bool src_device = cairn::emu::is_device_pointer(src);
  const bool dst_device = cairn::emu::is_device_pointer(dst);
  if (kind == cudaMemcpyDefault)
    kind = src_device ? (dst_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                      : (dst_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  const bool wants_src_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool wants_dst_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (wants_src_device != src_device || wants_dst_device != dst_device)
    return fail(cudaErrorInvalidMemcpyDirection);
  if ((src_device && !device_range_ok(src, bytes)) || (dst_device && !device_range_ok(dst, bytes)))
    return fail(cudaErrorInvalidValue);
  ++r.counts.copies;
  if (bytes == 0) return cudaSuccess;
  std::function<void()> run;
  if (kind == cudaMemcpyHostToDevice && !is_pinned(r, src)) {
    // Pageable memory is staged before the call returns.
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(src),
                                                      static_cast<const char*>(src) + bytes);
    run = [=] { cairn::emu::device_write(dst, staged->data(), bytes); };
  } else if (kind == cudaMemcpyHostToDevice) {
    run = [=] { cairn::emu::device_write(dst, src, bytes); };  // read when it runs: an early overwrite shows
  } else if (kind == cudaMemcpyDeviceToHost) {
    if (is_pinned(r, dst) && !s->capture)
      std::memset(dst, kPinnedPoison, bytes);  // a host that reads too early sees this
    run = [=] { cairn::emu::device_read(dst, src, bytes); };
  } else if (kind == cudaMemcpyDeviceToDevice) {
    run = [=] { cairn::emu::device_copy(dst, src, bytes); };
  } else {
    run = [=] { std::memmove(dst, src, bytes); };
  }
  // A copy between the device and pageable memory, and every cudaMemcpy that leaves or enters the host,
  // blocks the host.
  const bool blocks = synchronous || (kind == cudaMemcpyDeviceToHost && !is_pinned(r, dst));
  if (blocks && s->capture) return fail(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = submit(stream, "memcpy", std::move(run)); error != cudaSuccess) return error;
  if (blocks) {
    ++r.counts.synchronizations;
    wait_for(r, s->last);
    return device_error();
  }
  return cudaSuccess;
}

}  // namespace

namespace cairn::emu {

void set_schedule(Schedule schedule, std::uint64_t seed) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  wait_for_all(r);
  r.schedule = schedule;
  r.random.seed(seed);
}

cudaError_t enqueue_kernel(cudaStream_t stream, const char* name, std::function<void()> run) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  ++r.counts.launches;
  return submit(stream, name, std::move(run));
}

cudaError_t enqueue_library_call(cudaStream_t stream, const char* name, std::function<void()> run) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  ++r.counts.library_calls;
  return submit(stream, name, std::move(run));
}

CallCounts call_counts() {
  const Lock lock(runtime().mutex);
  return runtime().counts;
}
void reset_call_counts() {
  const Lock lock(runtime().mutex);
  runtime().counts = {};
}
void record_execution(bool on) {
  const Lock lock(runtime().mutex);
  runtime().recording = on;
  if (on) runtime().executed.clear();
}
std::vector<std::string> executed_operations() {
  const Lock lock(runtime().mutex);
  return runtime().executed;
}

}  // namespace cairn::emu

extern "C" {

// ---- memory ----

cudaError_t cudaMalloc(void** out, size_t bytes) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out) return fail(cudaErrorInvalidValue);
  if (capture_forbids(r)) return fail(cudaErrorStreamCaptureUnsupported);
  ++r.counts.allocations;
  *out = cairn::emu::device_malloc(bytes);
  return *out || bytes == 0 ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* p) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!p) return cudaSuccess;
  ++r.counts.frees;
  wait_for_all(r);  // cudaFree waits for the device
  return cairn::emu::device_free(p) ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** out, size_t bytes, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out || !resolve(r, stream)) return fail(cudaErrorInvalidValue);
  ++r.counts.allocations;
  *out = cairn::emu::device_malloc(bytes);
  return *out || bytes == 0 ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!p) return cudaSuccess;
  if (!cairn::emu::is_device_pointer(p)) return fail(cudaErrorInvalidValue);
  ++r.counts.frees;
  return submit(stream, "free", [p] { cairn::emu::device_free(p); });
}

cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned int /*flags*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out) return fail(cudaErrorInvalidValue);
  ++r.counts.allocations;
  *out = std::aligned_alloc(4096, (std::max<size_t>(bytes, 1) + 4095) / 4096 * 4096);
  if (!*out) return fail(cudaErrorMemoryAllocation);
  r.pinned[static_cast<const char*>(*out)] = bytes;
  cairn::emu::allow_host_range(*out, bytes);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }

cudaError_t cudaFreeHost(void* p) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!p) return cudaSuccess;
  if (r.pinned.erase(static_cast<const char*>(p)) == 0) return fail(cudaErrorInvalidValue);
  ++r.counts.frees;
  wait_for_all(r);
  cairn::emu::forget_host_range(p);
  std::free(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  return copy_async(dst, src, bytes, kind, nullptr, kind != cudaMemcpyDeviceToDevice);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_async(dst, src, bytes, kind, stream, false);
}

cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!device_range_ok(dst, bytes)) return fail(cudaErrorInvalidValue);
  ++r.counts.memsets;
  return submit(stream, "memset", [=] { cairn::emu::device_fill(dst, value, bytes); });
}

cudaError_t cudaMemset(void* dst, int value, size_t bytes) {
  return cudaMemsetAsync(dst, value, bytes, nullptr);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* src, size_t bytes, size_t offset,
                               cudaMemcpyKind) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  ++r.counts.copies;
  wait_for_all(r);
  std::memcpy(static_cast<char*>(const_cast<void*>(symbol)) + offset, src, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const auto& profile = cairn::emu::device_profile();
  *total_bytes = profile.total_global_mem;
  const std::size_t used = cairn::emu::device_bytes_in_use();
  *free_bytes = profile.total_global_mem > used ? profile.total_global_mem - used : 0;
  return cudaSuccess;
}

// ---- streams ----

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned int flags, int /*priority*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out || flags > cudaStreamNonBlocking) return fail(cudaErrorInvalidValue);
  auto* s = new CUstream_st;
  s->number = r.stream_numbers++;
  s->blocking = flags != cudaStreamNonBlocking;
  r.streams.insert(s);
  *out = s;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned int flags) {
  return cudaStreamCreateWithPriority(out, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* out) {
  return cudaStreamCreateWithPriority(out, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.streams.erase(stream)) return fail(cudaErrorInvalidResourceHandle);
  delete stream;  // its queued work still runs
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) return fail(cudaErrorStreamCaptureUnsupported);
  ++r.counts.synchronizations;
  if (s == &r.legacy) {
    for (CUstream_st* other : r.streams)
      if (other->blocking) wait_for(r, other->last);
  }
  wait_for(r, s->last);
  return device_error();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  return !s->last || s->last->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int /*flags*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->graph) {
    // Waiting for an event of a capture draws this stream into it.
    if (!s->capture) {
      for (CUstream_st* other : r.streams)
        if (other->capture && other->capture.get() == event->graph) s->capture = other->capture;
      if (!s->capture) return fail(cudaErrorStreamCaptureInvalidated);
      s->capture_tail.clear();
    } else if (s->capture.get() != event->graph) {
      return fail(cudaErrorStreamCaptureMerge);
    }
    for (const std::size_t node : event->nodes)
      if (std::find(s->capture_tail.begin(), s->capture_tail.end(), node) == s->capture_tail.end())
        s->capture_tail.push_back(node);
    return cudaSuccess;
  }
  if (s->capture) return fail(cudaErrorStreamCaptureIsolation);
  if (event->recorded) s->pending_waits.push_back(event->recorded);
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  const Lock lock(runtime().mutex);
  return submit(stream, "host function", [=] { function(data); });
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned int /*flags*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out) return fail(cudaErrorInvalidValue);
  *out = new CUevent_st;
  r.events.insert(*out);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.events.erase(event)) return fail(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    event->graph = s->capture.get();
    event->nodes = s->capture_tail;
    return cudaSuccess;
  }
  event->graph = nullptr;
  event->recorded = enqueue(r, *s, "", {});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->graph) return fail(cudaErrorCapturedEvent);
  ++r.counts.synchronizations;
  wait_for(r, event->recorded);
  return device_error();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->graph) return fail(cudaErrorCapturedEvent);
  return !event->recorded || event->recorded->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;  // an emulated device claims nothing about time
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (any_capture(r)) return fail(cudaErrorStreamCaptureUnsupported);
  ++r.counts.synchronizations;
  wait_for_all(r);
  return device_error();
}

// ---- graphs ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s == &r.legacy) return fail(cudaErrorStreamCaptureUnsupported);
  if (s->capture) return fail(cudaErrorIllegalState);
  s->capture = std::make_shared<CUgraph_st>();
  s->capture_origin = true;
  s->capture_mode = mode;
  s->capture_tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !out) return fail(cudaErrorInvalidValue);
  *out = nullptr;
  if (!s->capture) return fail(cudaErrorIllegalState);
  if (!s->capture_origin) return fail(cudaErrorStreamCaptureUnmatched);
  const std::shared_ptr<CUgraph_st> graph = s->capture;
  // Every node must be an ancestor of the origin's tail: a forked stream has to be joined again.
  std::vector<bool> joined(graph->nodes.size(), false);
  std::vector<std::size_t> stack = s->capture_tail;
  while (!stack.empty()) {
    const std::size_t node = stack.back();
    stack.pop_back();
    if (joined[node]) continue;
    joined[node] = true;
    stack.insert(stack.end(), graph->nodes[node].after.begin(), graph->nodes[node].after.end());
  }
  for (CUstream_st* other : r.streams) {
    if (other->capture != graph) continue;
    other->capture = nullptr;
    other->capture_origin = false;
    other->capture_tail.clear();
  }
  for (CUevent_st* event : r.events)
    if (event->graph == graph.get()) event->graph = nullptr;
  if (std::find(joined.begin(), joined.end(), false) != joined.end())
    return fail(cudaErrorStreamCaptureUnjoined);
  *out = new CUgraph_st(*graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !status) return fail(cudaErrorInvalidValue);
  *status = s->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long /*flags*/) {
  if (!out || !graph) return fail(cudaErrorInvalidValue);
  *out = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!exec) return fail(cudaErrorInvalidValue);
  ++r.counts.graph_launches;
  // The nodes run as one operation of the stream, in any order that their dependencies allow; towards each
  // other they are ordered by the graph alone.
  return submit(stream, "graph", [nodes = exec->nodes, &r] {
    const Clock before = r.current->clock;
    const auto [stream_number, tick] = r.operations[r.current->id];
    std::vector<std::set<std::size_t>> ancestors(nodes.size());
    std::vector<std::uint32_t> ids(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      ids[i] = new_operation(r, stream_number, tick);
      for (const std::size_t a : nodes[i].after) {
        ancestors[i].insert(a);
        ancestors[i].insert(ancestors[a].begin(), ancestors[a].end());
      }
    }
    cairn::emu::end_operation();
    std::vector<bool> done(nodes.size(), false);
    for (std::size_t left = nodes.size(); left > 0; --left) {
      std::vector<std::size_t> ready;
      for (std::size_t i = 0; i < nodes.size(); ++i)
        if (!done[i] &&
            std::all_of(nodes[i].after.begin(), nodes[i].after.end(), [&](std::size_t a) { return done[a]; }))
          ready.push_back(i);
      const std::size_t pick = ready[r.schedule == Schedule::random ? r.random() % ready.size() : 0];
      cairn::emu::begin_operation(ids[pick], nodes[pick].name.c_str(), [&](std::uint32_t e) {
        for (std::size_t i = 0; i < ids.size(); ++i)
          if (ids[i] == e) return ancestors[pick].contains(i);
        return covers(r, before, e);
      });
      nodes[pick].run();
      cairn::emu::end_operation();
      if (r.recording) r.executed.push_back(nodes[pick].name);
      done[pick] = true;
    }
  });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (!graph || !count || nodes) return fail(cudaErrorInvalidValue);  // only the number is offered
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

// ---- device ----

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int device) {
  if (!prop || device != 0) return fail(cudaErrorInvalidDevice);
  const auto& p = cairn::emu::device_profile();
  *prop = {};
  std::strncpy(prop->name, ("emulated " + p.name).c_str(), sizeof prop->name - 1);
  prop->totalGlobalMem = p.total_global_mem;
  prop->sharedMemPerBlock = p.max_shared_memory_per_block;
  prop->sharedMemPerBlockOptin = p.max_shared_memory_per_block_optin;
  prop->sharedMemPerMultiprocessor = p.shared_memory_per_multiprocessor;
  prop->regsPerBlock = static_cast<int>(p.registers_per_block);
  prop->warpSize = 32;
  prop->maxThreadsPerBlock = static_cast<int>(p.max_threads_per_block);
  prop->maxThreadsPerMultiProcessor = static_cast<int>(p.max_threads_per_multiprocessor);
  for (int i = 0; i < 3; ++i) {
    prop->maxThreadsDim[i] = static_cast<int>(p.max_block_size[static_cast<std::size_t>(i)]);
    prop->maxGridSize[i] = static_cast<int>(p.max_grid_size[static_cast<std::size_t>(i)]);
  }
  prop->major = p.compute_capability / 10;
  prop->minor = p.compute_capability % 10;
  prop->multiProcessorCount = static_cast<int>(p.multiprocessors);
  prop->l2CacheSize = static_cast<int>(p.l2_cache_bytes);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
      *value = 0;
      return cudaSuccess;
    default:
      return fail(cudaErrorInvalidValue);
  }
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  *attributes = {};
  const bool device = cairn::emu::is_device_pointer(p);
  attributes->type = device            ? cudaMemoryTypeDevice
                     : is_pinned(r, p) ? cudaMemoryTypeHost
                                       : cudaMemoryTypeUnregistered;
  if (device) attributes->devicePointer = const_cast<void*>(p);
  if (attributes->type == cudaMemoryTypeHost) attributes->hostPointer = const_cast<void*>(p);
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidMemcpyDirection:
      return "cudaErrorInvalidMemcpyDirection";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    default:
      return "cudaError of the emulated device";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

}  // extern "C"
