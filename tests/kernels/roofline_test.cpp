// Occupancy, estimates and clock rates against pencil and paper.
#include "kernels/roofline.h"

#include <gtest/gtest.h>

#include "kernels/nvml.h"

namespace cairn::kernels {
namespace {

const GpuModel& gpu(std::string_view id) { return *find_gpu(id); }

TEST(Occupancy, IsSetByWhatRunsOutFirst) {
  // 64 registers: 2048 a warp, so 32 of 64 warps.
  EXPECT_DOUBLE_EQ(occupancy(gpu("sm90_H100"), 64, 0, 256), 0.5);
  // 116 registers: 3712 a warp, given out as 3840: 17 warps, two blocks of 8.
  EXPECT_DOUBLE_EQ(occupancy(gpu("sm90_H100"), 116, 0, 256), 0.25);
  // 33 KiB with CUDA's own: six blocks of 228 KiB, 48 warps.
  EXPECT_DOUBLE_EQ(occupancy(gpu("sm90_H100"), 16, 32768, 256), 0.75);
  // T4: 32 warps and 16 blocks; blocks of one warp fill half of it.
  EXPECT_DOUBLE_EQ(occupancy(gpu("sm75_T4"), 16, 0, 32), 0.5);
  EXPECT_DOUBLE_EQ(occupancy(gpu("sm75_T4"), 16, 0, 1024), 1.0);
  EXPECT_EQ(occupancy(gpu("sm75_T4"), 16, 100 * 1024, 256), 0.0);  // does not fit
  EXPECT_EQ(find_gpu("sm00_none"), nullptr);
}

KernelCounters counted() {
  KernelCounters k;
  k.kernel = "a kernel that nobody has compiled";
  k.launches = 1;
  k.blocks = k.counted_blocks = 100;
  k.threads = 25'600;
  return k;
}

TEST(Estimate, TakesTheLongestOfWhatIsKnown) {
  KernelCounters k = counted();
  k.loads.sectors = 800'000;
  k.stores.sectors = 200'000;
  const Estimate memory = estimate(k, gpu("sm90_H100"));
  EXPECT_NEAR(memory.memory, 32e6 / 3350e3, 1e-9);  // 32 MB at 3350 GB/s
  EXPECT_EQ(memory.least(), memory.memory);
  EXPECT_EQ(memory.limit(), "memory");
  EXPECT_EQ(memory.occupancy, 0);  // without ptxas's word
  k.shared.waves = 132'000'000;
  const Estimate shared = estimate(k, gpu("sm90_H100"));
  EXPECT_NEAR(shared.least(), 1e6 / 1980, 1e-6);  // a million passes for each of 132 SMs at 1980 MHz
  EXPECT_EQ(shared.limit(), "shared memory");
  k.atomic_serial = 1'980'000;
  EXPECT_NEAR(estimate(k, gpu("sm90_H100")).atomics, 1000, 1e-6);
  k.counted_blocks = 25;  // a quarter stands for all
  EXPECT_NEAR(estimate(k, gpu("sm90_H100")).atomics, 4000, 1e-6);
}

TEST(Ptxas, KnowsTheKernelsOfThisRepository) {
  const KernelCode* relu = ptxas_of("elementwise_kernel<4, ReluForwardOf<float> >", 90);
  ASSERT_NE(relu, nullptr);
  EXPECT_GT(relu->registers, 8);
  EXPECT_LE(relu->registers, 64);  // tests/gpu/budgets.txt
  EXPECT_EQ(relu->spills, 0);
  EXPECT_EQ(ptxas_of("elementwise_kernel<4, ReluForwardOf<float> >", 61), nullptr);
  EXPECT_EQ(ptxas_of("no such kernel", 90), nullptr);
}

TEST(ClockRates, ComeFromTheDriversLibrary) {
  const ClockRates rates = nvml_clock_rates("0000:65:00.0", CAIRN_NVML_STAND_IN);
  EXPECT_EQ(rates.sm, 1755);
  EXPECT_EQ(rates.memory, 2619);
  EXPECT_EQ(rates.max_sm, 1980);
  EXPECT_EQ(rates.max_memory, 2620);
  EXPECT_EQ(nvml_clock_rates("0000:01:00.0", CAIRN_NVML_STAND_IN).sm, 0);  // no such GPU
  EXPECT_EQ(nvml_clock_rates("0000:65:00.0", "libno-such-library.so.1").sm, 0);
}

}  // namespace
}  // namespace cairn::kernels
