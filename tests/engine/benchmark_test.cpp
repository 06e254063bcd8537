// What benchmark() says of a function on the CPU, and how what was counted is put.
#include "engine/benchmark.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/kernel_table.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Benchmark, TakesThirtySamplesOrMoreAndSortsThem) {
  int calls = 0;
  const Timing t = benchmark(
      {},
      [&] {
        ++calls;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      },
      4e6);
  EXPECT_TRUE(t.timed);
  EXPECT_GE(t.samples, 30);
  EXPECT_EQ(t.samples_us.size(), static_cast<std::size_t>(t.samples));
  EXPECT_GT(calls, t.samples);  // the warm-up comes before
  EXPECT_TRUE(std::is_sorted(t.samples_us.begin(), t.samples_us.end()));
  EXPECT_GE(t.p10_us, 2000);
  EXPECT_LE(t.p10_us, t.median_us);
  EXPECT_LE(t.median_us, t.p90_us);
  EXPECT_NEAR(t.gb_per_s(), 4e6 / t.median_us / 1000, 1e-9);
  EXPECT_THAT(t.line("sleep"), HasSubstr("GB/s"));
  EXPECT_EQ(t.clocks(), "");  // nobody can tell
}

TEST(Benchmark, SaysClocksWhereTheyAreKnown) {
  Timing t;
  t.clocks_before = {.sm = 1980, .memory = 2619, .max_sm = 1980, .max_memory = 2619};
  t.clocks_after = {.sm = 1755, .memory = 2619, .max_sm = 1980, .max_memory = 2619};
  EXPECT_EQ(t.clocks(), "SM 1980 to 1755 of 1980 MHz, memory 2619 of 2619 MHz");
}

kernels::KernelCounters counted() {
  kernels::KernelCounters k;
  k.kernel = "elementwise_kernel<4, ReluForwardOf<float>>";
  k.launches = 1;
  k.blocks = k.counted_blocks = 128;
  k.threads = 128 * 256;
  k.loads = {.requests = 1024, .bytes = 524'288, .sectors = 16'384, .ideal_sectors = 16'384};
  k.stores = {.requests = 1024, .bytes = 524'288, .sectors = 32'768, .ideal_sectors = 16'384};
  return k;
}

TEST(Benchmark, SaysWhatWasCountedInPlaceOfTime) {
  Timing t;
  t.timed = false;
  t.kernels = {counted()};
  EXPECT_THAT(t.line("relu"), HasSubstr("not timed"));
  EXPECT_THAT(t.line("relu"),
              HasSubstr("1 launch, 0.524 MB read, 0.524 MB written, 24.0 sectors a request, 67 % "
                        "coalesced"));
  EXPECT_THAT(t.line("relu"), Not(HasSubstr("GB/s")));
}

TEST(KernelTable, CallsAnEstimateOne) {
  const std::vector<const kernels::GpuModel*> gpus{kernels::find_gpu("sm90_H100"),
                                                   kernels::find_gpu("sm75_T4")};
  const std::vector kernels{counted()};
  const std::string table = kernel_table(kernels, gpus);
  EXPECT_THAT(table, HasSubstr("estimate, not measured, for sm90_H100"));
  EXPECT_THAT(table, HasSubstr("estimate, not measured, for sm75_T4"));
  // 49152 sectors of 32 bytes: 0.47 us at 3350 GB/s, 4.92 us at 320.
  EXPECT_THAT(table, HasSubstr("0.47  memory"));
  EXPECT_THAT(table, HasSubstr("4.92  memory"));
}

TEST(KernelTable, SaysWhereNothingWasCounted) {
  kernels::KernelCounters k = counted();
  k.counted_blocks = 0;
  EXPECT_THAT(kernel_table(std::vector{k}, {}), HasSubstr("not counted"));
}

}  // namespace
}  // namespace cairn
