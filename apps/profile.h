#pragma once
#include <string>
#include <vector>

#include "engine/profiler.h"

namespace cairn::app {

/// Steps of a training that `train --profile` records: those behind the warm-up.
inline constexpr std::int64_t kProfileFrom = 3, kProfileSteps = 3;

/// What was recorded of `steps` steps that took `seconds` together.
struct Profile {
  std::vector<KernelEvent> events;
  std::int64_t steps = 0;
  double seconds = 0;
};

/// A line for each kernel of each layer and pass, in the order of a step: its time in a step, its share, what
/// it moves and computes at least, GFLOP/s and GB/s reached; the sums of the passes; what lay outside of
/// kernels.
std::string profile_table(const Profile& profile);

/// The same run as Chrome's trace event format (chrome://tracing, Perfetto), one event a kernel.
std::string profile_trace(const Profile& profile);

}  // namespace cairn::app
