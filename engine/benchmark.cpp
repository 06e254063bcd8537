#include "engine/benchmark.h"

#include <algorithm>
#include <chrono>

#include "engine/format_text.h"
#include "engine/kernel_table.h"
#include "engine/tensor.h"
#include "kernels/timer.h"

namespace cairn {
namespace {

constexpr std::size_t kSamples = 30;
constexpr double kSampleUs = 1000;    // on the host's clock: a sample repeats the call until it takes so long
constexpr double kLeastUs = 500'000;  // of all samples together
constexpr int kWarmUps = 3;           // plans are chosen in the first call, memory is there after the second

void summarize(std::vector<double> samples, Timing& timing) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double share) {
    return samples[static_cast<std::size_t>(share * static_cast<double>(samples.size() - 1))];
  };
  timing.median_us = at(0.5);
  timing.p10_us = at(0.1);
  timing.p90_us = at(0.9);
  timing.samples = static_cast<int>(samples.size());
  timing.samples_us = std::move(samples);
}

std::vector<double> on_the_hosts_clock(Device device, const std::function<void()>& f) {
  using Clock = std::chrono::steady_clock;
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
  return samples;
}

/// Samples on the device's own clock.
class Stopwatch {
 public:
  Stopwatch(Device device, const kernels::TimerApi& timer)
      : queue_(compute_queue(device)), api_(*kernels::device_api(device.type)), timer_(timer) {
    std::size_t cache = 0;
    check(timer.cache_bytes(device.index, cache));
    scrub_ = empty({2 * static_cast<std::int64_t>(cache)}, DType::u8, device);
  }
  ~Stopwatch() {
    for (const Pair& p : pairs_)
      for (void* event : {p.begin, p.end})
        if (event) static_cast<void>(api_.destroy_event(event));
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  /// Queued, not waited for: clearing twice the cache takes longer than launching what follows, so that the
  /// device finds the call queued when it gets there.
  void sample(const std::function<void()>& f) {
    Pair& p = pairs_.emplace_back();
    check(timer_.create_event(queue_.device.index, p.begin));
    check(timer_.create_event(queue_.device.index, p.end));
    check(api_.fill_zero(queue_, scrub_.inplace().data, static_cast<std::size_t>(scrub_.numel())));
    check(api_.record_event(queue_, p.begin));
    f();
    check(api_.record_event(queue_, p.end));
  }
  std::vector<double> read() const {
    check(api_.synchronize(queue_));
    std::vector<double> samples;
    for (const Pair& p : pairs_) check(timer_.elapsed_us(p.begin, p.end, samples.emplace_back()));
    return samples;
  }

 private:
  struct Pair {
    void *begin = nullptr, *end = nullptr;
  };
  const kernels::Queue& queue_;
  const kernels::DeviceApi& api_;
  const kernels::TimerApi& timer_;
  Tensor scrub_;
  std::vector<Pair> pairs_;
};

std::vector<double> on_its_own_clock(Device device, const kernels::TimerApi& timer,
                                     const std::function<void()>& f) {
  std::vector<double> samples;
  double total = 0;
  do {
    Stopwatch watch(device, timer);
    for (std::size_t i = 0; i < kSamples; ++i) watch.sample(f);
    for (const double us : watch.read()) {
      samples.push_back(us);
      total += us;
    }
    // Calls of a few microseconds would take thousands of samples to fill half a second.
  } while (total < kLeastUs && samples.size() < 20 * kSamples);
  return samples;
}

}  // namespace

std::string Timing::line(const std::string& name) const {
  if (timed) {
    std::string text =
        format_text("%-32s %10.1f us  (%.1f to %.1f)", name.c_str(), median_us, p10_us, p90_us);
    if (bytes > 0) text += format_text("  %8.2f GB/s", gb_per_s());
    return text;
  }
  std::string text = format_text("%-32s not timed: the emulated device's speed says nothing", name.c_str());
  for (const kernels::KernelCounters& k : kernels)
    if (k.counted_blocks > 0) text += "\n    " + summary_of(k);
  return text;
}

std::string Timing::clocks() const {
  if (clocks_before.sm == 0) return {};
  return format_text("SM %d to %d of %d MHz, memory %d of %d MHz", clocks_before.sm, clocks_after.sm,
                     clocks_before.max_sm, clocks_after.memory, clocks_before.max_memory);
}

Timing benchmark(Device device, const std::function<void()>& f, double bytes) {
  Timing timing;
  timing.bytes = bytes;
  const kernels::TimerApi* timer = kernels::timer_api(device.type);
  const kernels::MeasureApi* measure = kernels::measure_api(device.type);
  if (device.type == DeviceType::cuda_emu && timer && measure) {
    f();
    synchronize(device);
    measure->reset_counters();
    Stopwatch watch(device, *timer);
    watch.sample(f);
    timing.samples = static_cast<int>(watch.read().size());
    timing.kernels = measure->counters();
    timing.timed = false;
    return timing;
  }
  for (int i = 0; i < kWarmUps; ++i) f();
  synchronize(device);
  const auto clock_rates = [&] {
    return measure && measure->clock_rates ? measure->clock_rates(device.index) : kernels::ClockRates{};
  };
  timing.clocks_before = clock_rates();
  summarize(timer ? on_its_own_clock(device, *timer, f) : on_the_hosts_clock(device, f), timing);
  timing.clocks_after = clock_rates();
  return timing;
}

}  // namespace cairn
