#include "kernels/emu/stream_queue.h"

#include <chrono>
#include <thread>

namespace cairn::emu {

void merge(Clock& into, const Clock& other) {
  for (const auto& [stream, tick] : other) into[stream] = std::max(into[stream], tick);
}

namespace {

thread_local cudaError_t last = cudaSuccess;
thread_local int device_of_thread = 0;

// Short beside a kernel's run, long beside a look at whether another process has come.
constexpr auto kPause = std::chrono::microseconds(50);

void run_now(Runtime& r, const OpPtr& op) {
  if (op->run) {
    begin_operation(op->id, op->name.c_str(), [&r, &op](std::uint32_t e) { return covers(r, op->clock, e); });
    r.current = op.get();
    op->run();
    end_operation();
    if (std::exchange(op->again, false)) return;
  }
  op->run = nullptr;
  op->may_run = nullptr;
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

/// Runs queued work until `target` is done, or, unless it is to wait for other threads and processes, as far
/// as that goes without them.
void drive(Runtime& r, const OpPtr& target, bool wait = true) {
  while (!target->done) {
    std::set<Op*> needed;
    if (r.schedule != Schedule::random) collect_needed(target, needed);
    std::vector<OpPtr> ready;
    for (const OpPtr& op : r.pending)
      if (op->ready() && (r.schedule == Schedule::random || needed.contains(op.get()))) ready.push_back(op);
    // Dependencies point to older operations only, so something is always ready, or waits for others.
    if (ready.empty()) {
      if (!wait) return;
      r.mutex.yield();
      continue;
    }
    run_now(r, ready[r.schedule == Schedule::random ? r.random() % ready.size() : 0]);
  }
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

}  // namespace

void RuntimeMutex::yield() {
  const int depth = depth_;
  for (int i = 0; i < depth; ++i) unlock();
  std::this_thread::sleep_for(kPause);
  for (int i = 0; i < depth; ++i) lock();
}

int& current_device() { return device_of_thread; }

// Never destroyed: device memory is given back from static destructors too.
Runtime& runtime() {
  static auto& r = *new Runtime;
  return r;
}

cudaError_t fail(cudaError_t error) {
  last = error;
  return error;
}

cudaError_t last_error(bool clear) { return clear ? std::exchange(last, cudaSuccess) : last; }

std::uint32_t new_operation(Runtime& r, std::uint32_t stream, std::uint64_t tick) {
  r.operations.emplace_back(stream, tick);
  return static_cast<std::uint32_t>(r.operations.size() - 1);
}

bool covers(Runtime& r, const Clock& clock, std::uint32_t earlier) {
  const auto& [stream, tick] = r.operations[earlier];
  const auto it = clock.find(stream);
  return it != clock.end() && it->second >= tick;
}

void wait_for(Runtime& r, const OpPtr& target) {
  if (!target) return;
  drive(r, target);
  merge(r.host, target->clock);
}

void wait_for_device(Runtime& r, int device) {
  for (;;) {
    const auto op = std::find_if(r.pending.rbegin(), r.pending.rend(),
                                 [&](const OpPtr& p) { return p->device == device; });
    if (op == r.pending.rend()) break;
    drive(r, OpPtr(*op));
  }
  if (r.legacy.device == device) r.host[r.legacy.number] = r.legacy.ticks;
  for (const CUstream_st* s : r.streams)
    if (s->device == device) r.host[s->number] = s->ticks;
  merge(r.host, std::exchange(r.destroyed[device], {}));
}

CUstream_st* resolve(Runtime& r, cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) return &r.legacy;
  return r.streams.contains(stream) ? stream : nullptr;
}

OpPtr enqueue(Runtime& r, CUstream_st& s, std::string name, std::function<void()> run,
              std::function<bool()> may_run) {
  auto op = std::make_shared<Op>();
  op->name = std::move(name);
  op->run = std::move(run);
  op->may_run = std::move(may_run);
  op->device = s.device;
  op->after = dependencies(r, s);
  op->clock = r.host;
  for (const OpPtr& before : op->after) merge(op->clock, before->clock);
  op->clock[s.number] = ++s.ticks;
  op->id = new_operation(r, s.number, s.ticks);
  std::erase_if(op->after, [](const OpPtr& before) { return before->done; });
  s.last = op;
  r.pending.push_back(op);
  if (r.schedule == Schedule::eager) drive(r, op, false);
  // Now and then a random operation gets its turn early.
  if (r.schedule == Schedule::random && r.random() % 4 == 0) {
    std::vector<OpPtr> ready;
    for (const OpPtr& p : r.pending)
      if (p->ready()) ready.push_back(p);
    if (!ready.empty()) run_now(r, ready[r.random() % ready.size()]);
  }
  return op;
}

cudaError_t submit(cudaStream_t stream, std::string name, std::function<void()> run,
                   std::function<bool()> may_run) {
  Runtime& r = runtime();
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    if (s->capture->invalidated) return fail(cudaErrorStreamCaptureInvalidated);
    s->capture->nodes.push_back({std::move(name), std::move(run), std::move(may_run), s->capture_tail});
    s->capture_tail = {s->capture->nodes.size() - 1};
    return cudaSuccess;
  }
  if (s == &r.legacy &&
      std::any_of(r.streams.begin(), r.streams.end(), [](auto* o) { return o->capture && o->blocking; }))
    return fail(cudaErrorStreamCaptureImplicit);
  enqueue(r, *s, std::move(name), std::move(run), std::move(may_run));
  return cudaSuccess;
}

cudaError_t refuse_in_capture(CUstream_st& s) {
  s.capture->invalidated = true;
  return fail(cudaErrorStreamCaptureUnsupported);
}

bool any_capture(Runtime& r) {
  return std::any_of(r.streams.begin(), r.streams.end(), [](auto* s) { return s->capture != nullptr; });
}

bool capture_forbids(Runtime& r) {
  return std::any_of(r.streams.begin(), r.streams.end(), [](auto* s) {
    return s->capture_origin && s->capture_mode != cudaStreamCaptureModeRelaxed;
  });
}

cudaError_t device_error() {
  const cudaError_t error = take_device_error();
  return error == cudaSuccess ? error : fail(error);
}

bool is_pinned(Runtime& r, const void* p) {
  const auto* at = static_cast<const char*>(p);
  auto it = r.pinned.upper_bound(at);
  if (it == r.pinned.begin()) return false;
  --it;
  return at < it->first + it->second;
}

void set_schedule(Schedule schedule, std::uint64_t seed) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  for (int device = 0; device < r.devices; ++device) wait_for_device(r, device);
  r.schedule = schedule;
  r.random.seed(seed);
}

cudaError_t enqueue_kernel(cudaStream_t stream, const char* name, std::function<void()> run) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  const CUstream_st* s = resolve(r, stream);
  if (s && s != &r.legacy && s->device != current_device()) return fail(cudaErrorInvalidResourceHandle);
  ++r.counts.launches;
  return submit(stream, name, std::move(run));
}

cudaError_t enqueue_library_call(cudaStream_t stream, const char* name, std::function<void()> run,
                                 std::function<bool()> may_run) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  ++r.counts.library_calls;
  return submit(stream, name, std::move(run), std::move(may_run));
}

void set_device_count(int count) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  r.devices = count;
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
