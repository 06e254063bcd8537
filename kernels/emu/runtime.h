#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

/// What the stand-in for the CUDA runtime (cudart_*.cpp) offers beside CUDA's own API: kernels are queued
/// here, and tests steer and read the order in which queued work runs.
///
/// Nothing queued runs before something waits for it or the schedule picks it: work runs as late or as early,
/// and in as odd an order, as streams, events and the legacy default stream allow. CAIRN_EMU_SCHEDULE=eager
/// (at once, the default), late (only what a wait needs) or random[:SEED] (any operation whose turn has
/// come).
namespace cairn::emu {

enum class Schedule : std::uint8_t { eager, late, random };
void set_schedule(Schedule schedule, std::uint64_t seed = 0);

/// Queues a launch (or, while the stream is captured, adds it to the graph). `run` executes the whole grid.
cudaError_t enqueue_kernel(cudaStream_t stream, const char* name, std::function<void()> run);
/// Queues work of a vendor library's stand-in in the same way. Where it needs other processes or threads,
/// `may_run` says whether they have come; a wait for it lets other threads queue and run work meanwhile.
cudaError_t enqueue_library_call(cudaStream_t stream, const char* name, std::function<void()> run,
                                 std::function<bool()> may_run = {});

/// Devices that the process sees; initially CAIRN_EMU_DEVICES, else 1. All are of one profile and share the
/// memory's range.
void set_device_count(int count);

/// Calls since the process began or the last reset, so that a test can assert what a warmed-up step does.
struct CallCounts {
  std::int64_t allocations = 0;  // cudaMalloc, cudaMallocAsync, cudaHostAlloc, ...
  std::int64_t frees = 0;
  std::int64_t synchronizations = 0;  // calls that block the host: *Synchronize, synchronous copies
  std::int64_t launches = 0;
  std::int64_t library_calls = 0;
  std::int64_t copies = 0;
  std::int64_t memsets = 0;
  std::int64_t graph_launches = 0;
};
CallCounts call_counts();
void reset_call_counts();

/// Names of the operations in the order they ran, while recording is on.
void record_execution(bool on);
std::vector<std::string> executed_operations();

}  // namespace cairn::emu
