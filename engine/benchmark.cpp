#include "engine/benchmark.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace cairn {
namespace {

constexpr int kSamples = 30;
constexpr double kSampleUs = 1000;    // a sample repeats the call until it takes so long
constexpr double kLeastUs = 500'000;  // of all samples together

}  // namespace

std::string Timing::line(const std::string& name) const {
  char text[160];
  if (!timed) {
    std::snprintf(text, sizeof text, "%-32s not timed: the emulated device's speed says nothing",
                  name.c_str());
    return text;
  }
  const int n = std::snprintf(text, sizeof text, "%-32s %10.1f us  (%.1f to %.1f)", name.c_str(), median_us,
                              p10_us, p90_us);
  if (bytes > 0 && n > 0 && static_cast<std::size_t>(n) < sizeof text)
    std::snprintf(text + n, sizeof text - static_cast<std::size_t>(n), "  %8.2f GB/s",
                  bytes / median_us / 1000);
  return text;
}

Timing benchmark(Device device, const std::function<void()>& f, double bytes) {
  using Clock = std::chrono::steady_clock;
  Timing timing;
  timing.bytes = bytes;
  f();
  synchronize(device);
  if (device.type == DeviceType::cuda_emu) {
    timing.timed = false;
    return timing;
  }
  const auto time_of = [&](int calls) {
    const auto begin = Clock::now();
    for (int i = 0; i < calls; ++i) f();
    synchronize(device);
    return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
  };
  int calls = 1;
  while (time_of(calls) < kSampleUs && calls < 1 << 20) calls *= 2;  // warms up on the way
  std::vector<double> samples;
  for (double total = 0; samples.size() < kSamples || total < kLeastUs;) {
    const double us = time_of(calls);
    total += us;
    samples.push_back(us / calls);
  }
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) {
    return samples[static_cast<std::size_t>(share * static_cast<double>(samples.size() - 1))];
  };
  timing.median_us = at(0.5);
  timing.p10_us = at(0.1);
  timing.p90_us = at(0.9);
  timing.samples = static_cast<int>(samples.size());
  return timing;
}

}  // namespace cairn
