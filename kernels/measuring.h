#pragma once
/// What a backend can tell of the kernels it runs beside their results and their time (kernels/timer.h): the
/// clock rates they ran at and, on the emulated device, what they moved. engine/benchmark.h measures by it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Global memory as the lanes of a warp ask for it together.
struct Traffic {
  std::int64_t requests = 0;       // warp instructions
  std::int64_t bytes = 0;          // asked for by lanes
  std::int64_t sectors = 0;        // distinct 32-byte sectors of each request, summed
  std::int64_t ideal_sectors = 0;  // least possible for these bytes, request by request
};
struct SharedTraffic {
  std::int64_t requests = 0;
  std::int64_t waves = 0;        // passes through the 32 banks
  std::int64_t ideal_waves = 0;  // without bank conflicts
};
struct LineCounters {
  std::string location;  // "pool.cu:42"
  Traffic loads, stores;
  SharedTraffic shared;
  std::int64_t atomics = 0;
  std::int64_t active_lanes = 0;  // summed over requests: requests * 32 without divergence
};
/// Traffic of one kernel over all its launches. Exact if every block is counted (the default). There are no
/// caches in it: a sector that two requests touch counts twice.
struct KernelCounters {
  std::string kernel;  // "elementwise_kernel<4, ReluForwardOf<float>>"
  std::int64_t launches = 0, blocks = 0, threads = 0;
  std::int64_t dynamic_shared = 0;  // bytes a block of the largest launch
  Traffic loads, stores;            // global memory, without atomics
  SharedTraffic shared;
  std::int64_t atomics = 0;        // lanes' atomic operations on global memory
  std::int64_t atomic_serial = 0;  // sum over requests of the most lanes that hit one address
  std::int64_t shared_atomics = 0;
  std::int64_t divergent_requests = 0;  // requests made by a part of the warp's live lanes
  std::int64_t counted_blocks = 0;      // blocks that the traffic was counted in
  std::vector<LineCounters> lines;
};

/// Clock rates of a GPU in MHz; 0 where they cannot be read.
struct ClockRates {
  int sm = 0, memory = 0;
  int max_sm = 0, max_memory = 0;
};

struct MeasureApi {
  ClockRates (*clock_rates)(int index) = nullptr;
  /// The rest is null on real devices. Launches are always counted, traffic where checked kernels are linked.
  std::vector<KernelCounters> (*counters)() = nullptr;
  void (*reset_counters)() = nullptr;
  /// Counts traffic in every n-th block only; 1 = all, 0 = none.
  void (*set_counter_sampling)(int every) = nullptr;
  bool (*counts_traffic)() = nullptr;
};

/// Null for the CPU, and where no backend of that type is loaded.
const MeasureApi* measure_api(DeviceType type);
void register_measure_api(DeviceType type, const MeasureApi* api);

}  // namespace cairn::kernels
