#pragma once
/// The emulated device as the rest of the program sees it: launches, device memory, profile, what the checks
/// found. kernels/emu/runtime.h is its neighbour for streams, events and graphs.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <cuda_runtime_api.h>

#include "kernels/measuring.h"

namespace cairn::emu {

// ---- launches ----

/// One kernel with its arguments, as bytes: what a launch copies and each emulated thread reads.
class KernelCall {
 public:
  template <class... Params>
  KernelCall(void (*kernel)(Params...), Params... args)
      : function_(reinterpret_cast<const void*>(kernel)), run_(&run_thread<Params...>) {
    using Pack = std::tuple<Params...>;
    static_assert(alignof(Pack) <= alignof(std::max_align_t),
                  "kernel parameters of more than 16 bytes alignment");
    const Pack pack(args...);
    arguments_.resize(sizeof(Pack));
    __builtin_memcpy(arguments_.data(), &pack, sizeof(Pack));
  }
  const void* function() const { return function_; }
  const std::vector<std::byte>& arguments() const { return arguments_; }
  /// Calls the kernel for the current emulated thread.
  void operator()() const { run_(function_, arguments_.data()); }

 private:
  template <class... Params>
  static void run_thread(const void* function, const void* arguments) {
    const auto kernel = reinterpret_cast<void (*)(Params...)>(const_cast<void*>(function));
    std::apply(kernel, *static_cast<const std::tuple<Params...>*>(arguments));
  }

  const void* function_;
  void (*run_)(const void*, const void*);
  std::vector<std::byte> arguments_;
};

/// Checks the launch against the device profile and queues it (enqueue_kernel of runtime.h).
cudaError_t launch(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_shared,
                   cudaStream_t stream);
/// Runs a whole grid now, on the calling thread. One grid at a time: callers queue for it.
void run_grid(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_shared);
/// Demangled name without parameters, e.g. "relu_forward<float>"; lives as long as the process.
const char* kernel_name(const void* function);

/// The order in which a block's threads start and go on after a barrier, and in which blocks run. Initially
/// from CAIRN_EMU_ORDER=forward|reverse|random[:SEED], else forward.
enum class Order : std::uint8_t { forward, reverse, random };
void set_order(Order order, std::uint64_t seed = 0);
/// Operating-system threads that share a grid's blocks in unchecked runs; initially CAIRN_EMU_THREADS, else
/// 1: with more, the order of atomics between blocks is no longer fixed, as on a GPU.
void set_host_threads(int threads);

// ---- device memory ----

/// A fixed 64 GiB range of addresses: each allocation ends at a page that faults, is filled with 0xFF (a NaN
/// in every floating type), and its addresses are not used again before the range has been used up. Null when
/// the profile's memory (or set_memory_limit) is exceeded.
void* device_malloc(std::size_t bytes);
/// False if `p` is not the start of a live allocation; a write behind the allocation's end is reported here.
bool device_free(void* p);
/// Whether `p` lies in the device's range, live or not.
bool is_device_pointer(const void* p);
/// Whether [p, p+bytes) lies within one live allocation.
bool device_range_valid(const void* p, std::size_t bytes);
std::size_t device_bytes_in_use();
void set_memory_limit(std::size_t bytes);
/// Alignment of new allocations: 256 (what CUDA promises) or, to move the faulting page closer to the last
/// byte, 16. Initially CAIRN_EMU_ALIGN, else 256.
void set_heap_alignment(std::size_t bytes);
/// What copies and fills of the runtime do; ranges must be valid. They mark bytes as written for the checks.
void device_write(void* device, const void* host, std::size_t bytes);
void device_read(void* host, const void* device, std::size_t bytes);
void device_copy(void* to, const void* from, std::size_t bytes);
void device_fill(void* device, int value, std::size_t bytes);
/// Host memory that kernels may touch (pinned), so that the checks do not call it a host pointer.
void allow_host_range(const void* p, std::size_t bytes);
void forget_host_range(const void* p);

// ---- order between queued operations ----

/// Called by the runtime before it runs an operation (kernel, copy, fill, free) whose order against others it
/// knows: accesses of the operation are then held against those of earlier ones, and a pair that is neither
/// ordered nor harmless is reported. `ordered_after(e)`: operation `e`, begun before, is complete before this
/// one by the rules of streams and events. Ids are positive and never reused. Without calls, everything
/// counts as ordered.
void begin_operation(std::uint32_t id, const char* name, std::function<bool(std::uint32_t)> ordered_after);
void end_operation();

// ---- profile ----

/// One of kernels/emu/profiles/*.json. CAIRN_EMU_DEVICE=NAME chooses, e.g. sm80_A100; initially sm90_H100.
struct DeviceProfile {
  std::string id;              // "sm90_H100"
  std::string name;            // "NVIDIA H100 80GB HBM3"
  std::string json;            // the whole profile, as cuDNN takes it
  int compute_capability = 0;  // 90
  std::size_t total_global_mem = 0;
  std::size_t max_shared_memory_per_block = 0;
  std::size_t max_shared_memory_per_block_optin = 0;
  std::size_t reserved_shared_memory_per_block = 0;
  std::size_t shared_memory_per_multiprocessor = 0;
  std::size_t l2_cache_bytes = 0;
  std::int64_t max_grid_size[3] = {};
  std::int64_t max_block_size[3] = {};
  std::int64_t max_threads_per_block = 0;
  std::int64_t max_threads_per_multiprocessor = 0;
  std::int64_t max_blocks_per_multiprocessor = 0;
  std::int64_t registers_per_block = 0;
  std::int64_t registers_per_multiprocessor = 0;
  std::int64_t multiprocessors = 0;
};
const DeviceProfile& device_profile();
/// Throws cairn::InputError, naming the profiles there are, for an unknown one.
void set_device_profile(const std::string& id);
std::vector<std::string> device_profiles();

// ---- what was found ----

enum class Defect : std::uint8_t {
  out_of_bounds,
  use_after_free,
  misaligned,
  host_pointer,
  foreign_local,  // another thread's local memory
  uninitialised,
  race,
  divergent_barrier,
  warp_mask,  // a warp function whose lanes do not fit its mask
  invalid_launch,
  invalid_address,
  arithmetic,    // integer division by zero
  stream_order,  // two operations that nothing orders
};
const char* name_of(Defect defect);

/// One defect; the same defect at the same place in the same kernel is reported once, and counted.
struct Report {
  Defect defect{};
  std::string kernel{};    // as kernel_name
  std::string location{};  // "file.cu:12" of the access; empty where it cannot be known
  std::string other{};     // for races: location of the other access
  dim3 block{}, thread{};  // of the access
  std::string message{};   // all of it in one line
  std::int64_t count = 1;
};
/// Reports since the process began or the last call; each is also printed once to standard error.
std::vector<Report> take_reports();
void print_reports(bool on);
/// cudaErrorIllegalAddress or the like, as a real device would return from the next synchronisation after
/// what was found since the last call; cudaSuccess if nothing fatal was.
cudaError_t take_device_error();

// ---- counters ----

using kernels::KernelCounters;
using kernels::LineCounters;
using kernels::SharedTraffic;
using kernels::Traffic;
/// Launches, blocks and threads are always counted; traffic with checked kernels only.
std::vector<KernelCounters> counters();
void reset_counters();
/// Counts traffic in every n-th block only; 1 = all, 0 = none.
void set_counter_sampling(int every);

/// Whether the loaded kernels were built with checks.
bool checked();

}  // namespace cairn::emu
