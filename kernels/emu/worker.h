#pragma once
/// One operating-system thread that runs blocks, and the emulated threads of the block it runs.
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/emu/emu.h"
#include "kernels/emu/fiber.h"
#include "kernels/emu/simt.h"
#include "kernels/emu/symbols.h"

namespace cairn::emu {

inline constexpr unsigned kWarp = 32;
inline constexpr std::uint64_t kPoisonWord = ~std::uint64_t{0};

enum class ThreadState : std::uint8_t { unstarted, running, ready, at_barrier, in_warp_op, done };

struct Thread {
  uint3 index{};
  std::uint32_t linear = 0;
  ThreadState state = ThreadState::unstarted;
  bool abandoned = false;  // ended by a fault: what it then misses is no defect of its own
  Fiber* fiber = nullptr;
  Where where;  // of the barrier or warp function it waits at
  // For the checks.
  std::uint32_t warp_syncs = 0;  // grows at each __syncwarp, to one value for all that took part
  std::uint32_t fenced_at = 0;   // 1 + barriers passed when it last ran __threadfence; 0: never in this block

  unsigned lane() const { return linear % kWarp; }
  unsigned warp() const { return linear / kWarp; }
};

/// A warp function that lanes with one mask meet in.
struct WarpMeeting {
  WarpOp op{};
  unsigned mask = 0;
  unsigned arrived = 0;
  unsigned unread = 0;  // lanes that have not fetched their result
  bool complete = false;
  std::uint64_t values[kWarp] = {};
};

struct Warp {
  unsigned exists = 0;  // lanes that the block has
  unsigned done = 0;
  std::vector<WarpMeeting*> open;
};

/// What all workers of a grid share.
struct Grid {
  const KernelCall* call = nullptr;
  const KernelLibrary* library = nullptr;
  const char* name = "";
  dim3 size, block;
  std::size_t dynamic_shared = 0;
  std::uint64_t blocks = 0;
  std::uint32_t threads = 0;      // of a block
  std::vector<Range> own_shared;  // offsets of the kernel's own __shared__ variables
  bool checked = false;
  Order order = Order::forward;
  std::uint64_t seed = 0;
  // Blocks run in the order i -> (first + i * stride) mod blocks.
  std::uint64_t first_block = 0, block_stride = 1;
};

class Worker {
 public:
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void begin_grid(const Grid& grid);
  void run_block(std::uint64_t linear_block);

  // Of the running thread.
  int barrier(BarrierVote vote, int predicate, const Where& where);
  std::uint64_t warp_op(WarpOp op, unsigned mask, std::uint64_t value, int lane, int width,
                        const Where& where);
  void yield();
  /// Ends the running thread where it stands; for the fault handler, on the thread's own stack.
  [[noreturn]] void abandon_thread();

  Thread* current = nullptr;  // null outside kernels
  const Grid* grid = nullptr;
  uint3 block_index{};
  std::uint32_t barriers = 0;   // passed by the block
  std::uint32_t block_run = 0;  // never the same for two runs of blocks
  Range segment;                // shared memory: static
  Range dynamic;                // and dynamic,
  Range arena;                  // which lies somewhere in here
  FiberPool fibers;
  std::vector<Thread> threads;
  std::vector<Warp> warps;

 private:
  static void fiber_entry();
  void fiber_loop();
  Thread* next_thread();
  void park();  // the running thread goes on when somebody made it ready
  void go_to(Fiber* from, Thread* to);
  void start(Thread* thread);
  void finish(Thread* thread);
  void make_ready(Thread* thread);
  void try_complete_barrier();
  /// Of a thread that waits while no thread runs.
  Report report_of(const Thread& thread, Defect defect, std::string place, std::string message) const;
  void complete(Warp& warp, WarpMeeting* meeting);
  void recheck_meetings(unsigned warp);
  void resolve_deadlock();
  std::uint64_t result_of(const WarpMeeting& m, const Warp& warp, unsigned lane, int source, int width,
                          const Where& where);
  void poison_shared(bool everything);

  Fiber own_;  // the operating-system thread's stack
  Fiber* running_ = nullptr;
  std::vector<std::uint32_t> start_order_;
  std::uint32_t started_ = 0, finished_ = 0, abandoned_ = 0;
  std::vector<Thread*> ready_;
  std::size_t ready_head_ = 0;
  // The barrier that threads are arriving at.
  std::uint32_t arrived_ = 0;
  std::uint32_t votes_ = 0;
  std::uint32_t result_count_ = 0, result_arrived_ = 0;
  Where barrier_where_;
  std::vector<WarpMeeting*> free_meetings_;
  std::mt19937_64 random_;
  char* dynamic_end_ = nullptr;  // the arena's last byte, behind it a page that faults
  bool grid_begun_ = false;
};

/// The worker of this operating-system thread.
Worker& this_worker();
/// The same if it is inside a kernel, else null.
Worker* kernel_worker() noexcept;

/// "pool.cu:42"
std::string text_of(const Where& where);

}  // namespace cairn::emu
