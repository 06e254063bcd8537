#pragma once
#include <functional>
#include <string>

#include "engine/device.h"

namespace cairn {

/// How long something took: at least 30 samples after a warm-up, each long enough to be timed.
struct Timing {
  double median_us = 0, p10_us = 0, p90_us = 0;  // of one call
  int samples = 0;
  double bytes = 0;   // that one call has to move; 0: not said
  bool timed = true;  // false on the emulated device, whose speed says nothing
  double gb_per_s() const { return timed && median_us > 0 ? bytes / median_us / 1000 : 0; }
  /// "swish forward          123.4 us  (120.1 to 130.9)   27.2 GB/s"
  std::string line(const std::string& name) const;
};

/// Times f on the device; half a second or 30 samples, whichever is more. `bytes`: what one call has to read
/// and write, counted once each.
/// CPU: the host's clock, over so many calls that a sample takes a millisecond. CUDA: the device's own time
/// stamps around each call, its last cache overwritten before it, so that what f reads comes from memory, and
/// the host so far ahead that no launch is waited for. On the emulated device the same is queued once, and
/// nothing is timed. Clocks are not held: who publishes figures says what nvidia-smi showed meanwhile
/// (scripts/gpu-acceptance does).
Timing benchmark(Device device, const std::function<void()>& f, double bytes = 0);

}  // namespace cairn
