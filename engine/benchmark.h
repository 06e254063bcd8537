#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/device.h"
#include "kernels/measuring.h"

namespace cairn {

/// How long something took: at least 30 samples after a warm-up, each long enough to be timed.
struct Timing {
  double median_us = 0, p10_us = 0, p90_us = 0;  // of one call
  int samples = 0;
  std::vector<double> samples_us{};  // sorted; empty where nothing is timed
  double bytes = 0;                  // that one call has to move; 0: not said
  bool timed = true;                 // false on the emulated device, whose speed says nothing
  kernels::ClockRates clocks_before{}, clocks_after{};  // of a GPU, where they can be read
  std::vector<kernels::KernelCounters> kernels{};  // on the emulated device: what one call launches and moves
  double gb_per_s() const { return timed && median_us > 0 ? bytes / median_us / 1000 : 0; }
  /// "swish forward          123.4 us  (120.1 to 130.9)   27.2 GB/s"; on the emulated device, in its place, a
  /// line for each kernel that says what was counted.
  std::string line(const std::string& name) const;
  /// "SM 1980 to 1965 of 1980 MHz, memory 2619 of 2619 MHz"; empty where nobody can tell.
  std::string clocks() const;
};

/// Times f on the device; half a second or 30 samples, whichever is more. `bytes`: what one call has to read
/// and write, counted once each.
/// CPU: the host's clock, over so many calls that a sample takes a millisecond. CUDA: the device's own time
/// stamps around each call, its last cache overwritten before it, so that what f reads comes from memory, and
/// the host so far ahead that no launch is waited for. On the emulated device the same is queued twice:
/// nothing is timed, and the second call's traffic is counted where its kernels are checked ones. Clocks are
/// read before and after, not held: who publishes figures says what nvidia-smi showed meanwhile
/// (scripts/gpu-acceptance does).
Timing benchmark(Device device, const std::function<void()>& f, double bytes = 0);

}  // namespace cairn
