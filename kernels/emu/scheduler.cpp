#include <algorithm>
#include <cstring>
#include <numeric>

#include <sys/mman.h>

#include "kernels/emu/checks.h"
#include "kernels/emu/heap.h"
#include "kernels/emu/report.h"
#include "kernels/emu/worker.h"
#include "kernels/error.h"

namespace cairn::emu {

constinit thread_local ThreadView this_thread{};

namespace {

constexpr std::size_t kDynamicArena = 256 * 1024;  // more than any device's shared memory

thread_local Worker* worker_here = nullptr;

/// Ends the worker with its operating-system thread: ranks of a job may be threads that come and go.
struct EndOfThread {
  ~EndOfThread() { delete std::exchange(worker_here, nullptr); }
};

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

}  // namespace

std::string text_of(const Where& where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

Worker& this_worker() {
  if (!worker_here) {
    thread_local const EndOfThread end;
    worker_here = new Worker;
  }
  return *worker_here;
}

Worker* kernel_worker() noexcept { return worker_here && worker_here->current ? worker_here : nullptr; }

Worker::Worker() : fibers(&Worker::fiber_entry) {
  void* memory = mmap(nullptr, kDynamicArena + kPageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw Error("[emulated device] no memory for a worker's shared memory");
  dynamic_end_ = static_cast<char*>(memory) + kDynamicArena;
  mprotect(dynamic_end_, kPageBytes, PROT_NONE);
  arena = {reinterpret_cast<std::uintptr_t>(memory),
           reinterpret_cast<std::uintptr_t>(memory) + kDynamicArena + kPageBytes};
}

Worker::~Worker() { munmap(reinterpret_cast<void*>(arena.begin), arena.end - arena.begin); }

void Worker::begin_grid(const Grid& g) {
  grid = &g;
  random_.seed(g.seed);
  threads.resize(g.threads);
  start_order_.resize(g.threads);
  std::iota(start_order_.begin(), start_order_.end(), 0u);
  if (g.order == Order::reverse) std::reverse(start_order_.begin(), start_order_.end());
  for (std::uint32_t i = 0; i < g.threads; ++i) {
    threads[i].linear = i;
    threads[i].index = {i % g.block.x, i / g.block.x % g.block.y, i / g.block.x / g.block.y};
  }
  warps.resize((g.threads + kWarp - 1) / kWarp);
  for (std::uint32_t w = 0; w < warps.size(); ++w) {
    const std::uint32_t lanes = std::min(kWarp, g.threads - w * kWarp);
    warps[w].exists = lanes == kWarp ? ~0u : (1u << lanes) - 1;
  }
  segment = g.library ? shared_segment(*g.library) : Range{};
  // The arena's end is the allocation's end, up to the alignment that kernels may count on.
  const auto end = reinterpret_cast<std::uintptr_t>(dynamic_end_);
  dynamic = {end - (g.dynamic_shared + 15) / 16 * 16, 0};
  dynamic.end = dynamic.begin + g.dynamic_shared;
  this_thread.block_dim = g.block;
  this_thread.grid_dim = g.size;
  grid_begun_ = true;
}

void Worker::poison_shared(bool everything) {
  if (everything) {
    std::memset(reinterpret_cast<void*>(segment.begin), kPoison, segment.end - segment.begin);
  } else {
    for (const Range& r : grid->own_shared)
      std::memset(reinterpret_cast<void*>(segment.begin + r.begin), kPoison, r.end - r.begin);
  }
  std::memset(reinterpret_cast<void*>(dynamic.begin), kPoison, dynamic.end - dynamic.begin);
}

void Worker::run_block(std::uint64_t linear_block) {
  const dim3 size = grid->size;
  block_index = {static_cast<unsigned>(linear_block % size.x),
                 static_cast<unsigned>(linear_block / size.x % size.y),
                 static_cast<unsigned>(linear_block / size.x / size.y)};
  this_thread.block_idx = block_index;
  // All shared memory once a launch, then the kernel's own variables only: helpers' cost too much a block.
  poison_shared(grid_begun_ || grid->own_shared.empty());
  grid_begun_ = false;
  for (Thread& t : threads) {
    t.state = ThreadState::unstarted;
    t.abandoned = false;
    t.warp_syncs = 0;
    t.fenced_at = 0;
  }
  for (Warp& w : warps) w.done = 0;
  started_ = finished_ = abandoned_ = arrived_ = votes_ = 0;
  barriers = 0;
  ready_.clear();
  ready_head_ = 0;
  if (grid->order == Order::random) std::shuffle(start_order_.begin(), start_order_.end(), random_);

  running_ = fibers.acquire();
  running_->job = nullptr;
  switch_fiber(&own_, running_);
}

void Worker::fiber_entry() {
  fiber_started();
  worker_here->fiber_loop();
}

void Worker::fiber_loop() {
  for (;;) {
    Thread* t = running_->job ? std::exchange(running_->job, nullptr) : next_thread();
    Fiber* self = running_;
    if (!t) {
      fibers.release(self);
      running_ = &own_;
      switch_fiber(self, &own_);
    } else if (t->state == ThreadState::unstarted) {
      start(t);
      finish(t);
    } else {
      fibers.release(self);
      go_to(self, t);
    }
  }
}

void Worker::start(Thread* t) {
  t->state = ThreadState::running;
  t->fiber = running_;
  current = t;
  this_thread.thread_idx = t->index;
  (*grid->call)();
}

void Worker::finish(Thread* t) {
  t->state = ThreadState::done;
  current = nullptr;
  ++finished_;
  Warp& warp = warps[t->warp()];
  warp.done |= 1u << t->lane();
  if (arrived_ > 0) try_complete_barrier();
  if (!warp.open.empty()) recheck_meetings(t->warp());
}

void Worker::abandon_thread() {
  Thread* t = current;
  t->abandoned = true;
  ++abandoned_;
  finish(t);
  fiber_loop();
  __builtin_unreachable();
}

void Worker::go_to(Fiber* from, Thread* to) {
  Fiber* target = to->fiber;
  if (to->state == ThreadState::unstarted) {
    target = fibers.acquire();
    target->job = to;
  } else {
    to->state = ThreadState::running;
    current = to;
    this_thread.thread_idx = to->index;
  }
  running_ = target;
  switch_fiber(from, target);
}

void Worker::make_ready(Thread* t) {
  t->state = ThreadState::ready;
  ready_.push_back(t);
}

Thread* Worker::next_thread() {
  for (;;) {
    const std::size_t unstarted = threads.size() - started_;
    const std::size_t ready = ready_.size() - ready_head_;
    const bool shuffled = grid->order == Order::random;
    if (unstarted > 0 && !(shuffled && ready > 0 && random_() % (ready + unstarted) < ready))
      return &threads[start_order_[started_++]];
    if (ready > 0) {
      if (shuffled) std::swap(ready_[ready_head_], ready_[ready_head_ + random_() % ready]);
      Thread* t = ready_[ready_head_++];
      if (ready_head_ == ready_.size()) {
        ready_.clear();
        ready_head_ = 0;
      }
      return t;
    }
    if (finished_ == threads.size()) return nullptr;
    resolve_deadlock();
  }
}

void Worker::park() {
  Thread* self = current;
  Fiber* fiber = running_;
  Thread* t = next_thread();
  if (t == self) {
    self->state = ThreadState::running;
    current = self;
    return;
  }
  go_to(fiber, t);
}

void Worker::yield() {
  make_ready(current);
  park();
}

Report Worker::report_of(const Thread& thread, Defect defect, std::string place, std::string message) const {
  return {.defect = defect,
          .kernel = grid->name,
          .location = std::move(place),
          .block = dim3(block_index.x, block_index.y, block_index.z),
          .thread = dim3(thread.index.x, thread.index.y, thread.index.z),
          .message = std::move(message)};
}

int Worker::barrier(BarrierVote vote, int predicate, const Where& where) {
  if (arrived_ == 0) {
    barrier_where_ = where;
  } else if (!same_place(where, barrier_where_)) {
    add_report({.defect = Defect::divergent_barrier,
                .location = text_of(where),
                .other = text_of(barrier_where_),
                .message = "this thread waits at " + text_of(where) + ", others of its block at " +
                           text_of(barrier_where_) + ": all must reach the same __syncthreads()"});
  }
  current->where = where;
  current->state = ThreadState::at_barrier;
  ++arrived_;
  votes_ += predicate != 0;
  try_complete_barrier();
  park();
  switch (vote) {
    case BarrierVote::count:
      return static_cast<int>(result_count_);
    case BarrierVote::all:
      return result_count_ == result_arrived_;
    case BarrierVote::any:
      return result_count_ > 0;
    case BarrierVote::none:
      break;
  }
  return 0;
}

void Worker::try_complete_barrier() {
  const auto all = static_cast<std::uint32_t>(threads.size());
  if (arrived_ == 0 || arrived_ != all - finished_) return;
  if (finished_ > abandoned_) {
    const auto waiting = std::find_if(threads.begin(), threads.end(),
                                      [](const Thread& t) { return t.state == ThreadState::at_barrier; });
    add_report(report_of(*waiting, Defect::divergent_barrier, text_of(barrier_where_),
                         std::to_string(finished_) + " of the block's " + std::to_string(all) +
                             " threads returned before the __syncthreads() that the others wait at"));
  }
  result_count_ = votes_;
  result_arrived_ = arrived_;
  arrived_ = votes_ = 0;
  ++barriers;
  for (const std::uint32_t i : start_order_)
    if (threads[i].state == ThreadState::at_barrier) make_ready(&threads[i]);
}

}  // namespace cairn::emu
