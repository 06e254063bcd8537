// Counters equal what paper and pencil give: a warp's request of 32 floats is 4 sectors of 32 bytes, and so
// on.
#include <gtest/gtest.h>

#include "kernels/emu/emu.h"
#include "tests/emu/traffic.h"

namespace cairn::emu {
namespace {

constexpr int kN = 1024;  // floats: 32 warps

KernelCounters count(const std::string& name, dim3 grid, dim3 block, int n = kN,
                     std::size_t floats = 32 * kN) {
  auto* in = static_cast<float*>(device_malloc(floats * sizeof(float)));
  auto* out = static_cast<float*>(device_malloc(floats * sizeof(float)));
  device_fill(in, 0, floats * sizeof(float));
  device_fill(out, 0, floats * sizeof(float));
  reset_counters();
  EXPECT_TRUE(kernels::run_traffic(name, grid, block, in, out, n).ok());
  device_free(in);
  device_free(out);
  for (const Report& r : take_reports()) ADD_FAILURE() << r.message;
  const std::vector<KernelCounters> all = counters();
  EXPECT_EQ(all.size(), 1u);
  EXPECT_EQ(all.at(0).kernel, name);
  EXPECT_EQ(all.at(0).counted_blocks, all.at(0).blocks);
  return all.at(0);
}

void expect(const Traffic& t, std::int64_t requests, std::int64_t bytes, std::int64_t sectors,
            std::int64_t ideal) {
  EXPECT_EQ(t.requests, requests);
  EXPECT_EQ(t.bytes, bytes);
  EXPECT_EQ(t.sectors, sectors);
  EXPECT_EQ(t.ideal_sectors, ideal);
}
void expect(const SharedTraffic& t, std::int64_t requests, std::int64_t waves, std::int64_t ideal) {
  EXPECT_EQ(t.requests, requests);
  EXPECT_EQ(t.waves, waves);
  EXPECT_EQ(t.ideal_waves, ideal);
}

TEST(Counters, Copy) {
  const KernelCounters k = count("copy", 4, 256);
  EXPECT_EQ(k.launches, 1);
  EXPECT_EQ(k.blocks, 4);
  EXPECT_EQ(k.threads, 1024);
  expect(k.loads, 32, 4096, 128, 128);
  expect(k.stores, 32, 4096, 128, 128);
  expect(k.shared, 0, 0, 0);
  EXPECT_EQ(k.divergent_requests, 0);
  ASSERT_EQ(k.lines.size(), 1u);  // load and store stand on one line
  EXPECT_TRUE(k.lines[0].location.starts_with("traffic.cu:")) << k.lines[0].location;
  EXPECT_EQ(k.lines[0].loads.sectors, 128);
  EXPECT_EQ(k.lines[0].active_lanes, 2 * 1024);
}
TEST(Counters, CopyOfAnOddSize) {
  const KernelCounters k = count("copy", 4, 256, 1000);  // the last warp has 8 lanes: one sector
  expect(k.loads, 32, 4000, 125, 125);
  EXPECT_EQ(k.divergent_requests, 2);
}
TEST(Counters, CopyVectors) {
  const KernelCounters k = count("copy_vectors", 1, 256);  // 512 bytes a request
  expect(k.loads, 8, 4096, 128, 128);
  expect(k.stores, 8, 4096, 128, 128);
}
TEST(Counters, CopyHalves) {
  const KernelCounters k = count("copy_halves", 4, 256);  // 64 bytes a request
  expect(k.loads, 32, 2048, 64, 64);
}
TEST(Counters, CopyStrided) {
  expect(count("copy_strided<2>", 1, 32, 64).loads, 1, 128, 8, 4);
  expect(count("copy_strided<8>", 1, 32, 256).loads, 1, 128, 32, 4);
  expect(count("copy_strided<32>", 1, 32, 1024).stores, 1, 128, 32, 4);
}
TEST(Counters, CopyShifted) { expect(count("copy_shifted", 1, 32).loads, 1, 128, 5, 4); }
TEST(Counters, Broadcast) {
  const KernelCounters k = count("broadcast", 1, 256);
  expect(k.loads, 8, 1024, 8, 8);  // every lane asks for the same 4 bytes
  expect(k.stores, 8, 1024, 32, 32);
}
TEST(Counters, TransposeNaive) {
  const KernelCounters k = count("transpose_naive", dim3(2, 2), dim3(32, 32), 64);
  expect(k.loads, 128, 16384, 512, 512);
  expect(k.stores, 128, 16384, 128 * 32, 512);
}
TEST(Counters, TransposeThroughSharedMemory) {
  const KernelCounters naive = count("transpose<0>", dim3(2, 2), dim3(32, 32), 64);
  expect(naive.loads, 128, 16384, 512, 512);
  expect(naive.stores, 128, 16384, 512, 512);
  expect(naive.shared, 256, 128 + 128 * 32, 256);  // a column lies in one bank
  const KernelCounters padded = count("transpose<1>", dim3(2, 2), dim3(32, 32), 64);
  expect(padded.stores, 128, 16384, 512, 512);
  expect(padded.shared, 256, 256, 256);
}
TEST(Counters, SharedVectors) {  // 16 bytes a lane: 4 phases of 8 lanes, each 32 words
  expect(count("shared_vectors", 1, 32).shared, 2, 8, 8);
}
TEST(Counters, Reduction) {
  const KernelCounters k = count("sum_blocks", 2, 128, 1024);  // 4 turns for each of 8 warps
  expect(k.loads, 32, 4096, 128, 128);
  expect(k.stores, 2, 8, 2, 2);
  // A block: 4 warps write one word each; then 4 warps read 4 words.
  expect(k.shared, 2 * (4 + 4), 2 * (4 + 4), 2 * (4 + 4));
  EXPECT_EQ(k.divergent_requests, 2 * (4 + 4 + 1));  // one lane writes, four lanes read, one lane stores
}
TEST(Counters, Atomics) {
  const KernelCounters k = count("histogram", 1, 64);  // all zero: every lane hits the first bin
  EXPECT_EQ(k.atomics, 64);
  EXPECT_EQ(k.atomic_serial, 64);
  expect(k.stores, 0, 0, 0, 0);
}
TEST(Counters, Divergence) {
  const KernelCounters k = count("odd_lanes_only", 1, 64);
  EXPECT_EQ(k.divergent_requests, 4);
  expect(k.loads, 2, 128, 8, 4);
}
TEST(Counters, SamplingCountsEveryNthBlock) {
  set_counter_sampling(4);
  auto* p = static_cast<float*>(device_malloc(4096 * sizeof(float)));
  device_fill(p, 0, 4096 * sizeof(float));
  reset_counters();
  EXPECT_TRUE(kernels::run_traffic("copy", 16, 256, p, p, 4096).ok());
  set_counter_sampling(1);
  const KernelCounters k = counters().at(0);
  device_free(p);
  EXPECT_EQ(k.blocks, 16);
  EXPECT_EQ(k.counted_blocks, 4);
  expect(k.loads, 32, 4096, 128, 128);
}

}  // namespace
}  // namespace cairn::emu
