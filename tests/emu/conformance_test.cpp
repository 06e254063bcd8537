// Holds the device against the CUDA C++ Programming Guide 13.0 (each test names the section; "Extensions" is
// short for "C++ Language Extensions") and, where that leaves it open, against the PTX ISA. The same file
// runs on a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "kernels/view.h"
#include "tests/emu/programs.h"

#if defined(CAIRN_CUDA_EMU)
#include "kernels/emu/emu.h"
#endif

namespace cairn::kernels {
namespace {

using Words = std::vector<Word>;

Words run(const std::string& name, dim3 grid, dim3 block, const Words& in, Words out,
          std::size_t shared = 0) {
  Word *device_in = nullptr, *device_out = nullptr;
  const std::size_t in_bytes = in.size() * sizeof(Word), out_bytes = out.size() * sizeof(Word);
  EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&device_in), in_bytes), cudaSuccess);
  EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&device_out), out_bytes), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(device_in, in.data(), in_bytes, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(device_out, out.data(), out_bytes, cudaMemcpyHostToDevice), cudaSuccess);
  const Status status = run_program(name, grid, block, shared, device_in, device_out);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(cudaMemcpy(out.data(), device_out, out_bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(cudaFree(device_in), cudaSuccess);
  EXPECT_EQ(cudaFree(device_out), cudaSuccess);
  return out;
}

Words counting(std::size_t n, Word first = 0) {
  Words out(n);
  std::iota(out.begin(), out.end(), first);
  return out;
}
template <class F>
Words made(std::size_t n, F&& f) {
  Words out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<Word>(f(static_cast<Word>(i)));
  return out;
}
/// Distinct values without a pattern that a wrong lane number could hide in.
Words scattered(std::size_t n) {
  return made(n, [](Word i) { return i * 2654435761u ^ 0x9e3779b9u; });
}
Word bits(float x) { return std::bit_cast<Word>(x); }

/// The same in each order in which threads may run.
class Conformance : public testing::TestWithParam<int> {
#if defined(CAIRN_CUDA_EMU)
 protected:
  void SetUp() override {
    constexpr emu::Order kOrders[] = {emu::Order::forward, emu::Order::reverse, emu::Order::random,
                                      emu::Order::random};
    emu::set_order(kOrders[GetParam()], static_cast<std::uint64_t>(GetParam()));
    emu::take_reports();
  }
  void TearDown() override {
    emu::set_order(emu::Order::forward);
    for (const emu::Report& r : emu::take_reports()) ADD_FAILURE() << r.message;
  }
#endif
};
#if defined(CAIRN_CUDA_EMU)
INSTANTIATE_TEST_SUITE_P(Orders, Conformance, testing::Range(0, 4));
#else
INSTANTIATE_TEST_SUITE_P(Device, Conformance, testing::Values(0));
#endif

TEST_P(Conformance,
       BuiltInVariables) {  // Extensions, "Built-in Variables"; "Thread Hierarchy": x varies fastest
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  const Words out = run("indices", grid, block, {0}, Words(2 * 12 * 60));
  std::size_t at = 0;
  for (Word bz = 0; bz < 2; ++bz)
    for (Word by = 0; by < 2; ++by)
      for (Word bx = 0; bx < 3; ++bx)
        for (Word z = 0; z < 3; ++z)
          for (Word y = 0; y < 4; ++y)
            for (Word x = 0; x < 5; ++x, at += 2) {
              ASSERT_EQ(out[at], x | y << 8 | z << 16);
              ASSERT_EQ(out[at + 1], bx | by << 8 | bz << 16);
            }
}
TEST_P(Conformance, WarpsAreCutFromLinearThreads) {  // "SIMT Architecture"
  EXPECT_EQ(run("warp_layout", 1, dim3(16, 4, 2), {0}, Words(128)),
            made(128, [](Word i) { return i / 32 * 32; }));
}

// Extensions, "Warp Shuffle Functions".
TEST_P(Conformance, ShuffleIndexWrapsAtWidth) {
  const Words in = scattered(32);
  EXPECT_EQ(run("shuffle_index", 1, 32, in, Words(32)), made(32, [&](Word i) { return in[i * 7 % 32]; }));
  EXPECT_EQ(run("shuffle_index_width", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[i / 8 * 8 + 3]; }));
}
TEST_P(Conformance, ShuffleUpKeepsTheLowestLanes) {
  const Words in = scattered(32);
  EXPECT_EQ(run("shuffle_up", 1, 32, in, Words(32)), made(32, [&](Word i) { return in[i < 3 ? i : i - 3]; }));
  EXPECT_EQ(run("shuffle_up_width", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[i % 8 < 3 ? i : i - 3]; }));
}
TEST_P(Conformance, ShuffleDownKeepsTheHighestLanes) {
  const Words in = scattered(32);
  EXPECT_EQ(run("shuffle_down", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[i + 5 < 32 ? i + 5 : i]; }));
  EXPECT_EQ(run("shuffle_down_width", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[i % 16 + 5 < 16 ? i + 5 : i]; }));
}
TEST_P(Conformance, ShuffleXorReachesEarlierGroupsOnly) {
  const Words in = scattered(32);
  EXPECT_EQ(run("shuffle_xor", 1, 32, in, Words(32)), made(32, [&](Word i) { return in[i ^ 21]; }));
  // width 8, mask 12: lanes of an even group would read from a later group and keep their own value.
  EXPECT_EQ(run("shuffle_xor_width", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[(i ^ 12) / 8 > i / 8 ? i : i ^ 12]; }));
}
TEST_P(Conformance, ShuffleMovesEightBytesAndTwo) {
  const Words in = counting(32, 1);
  const Words out = run("shuffle_wide_types", 1, 32, in, Words(128));
  for (Word i = 0; i < 32; ++i) {
    EXPECT_EQ(out[4 * i], in[i ^ 1]);
    EXPECT_EQ(out[4 * i + 1], i ^ 1);
    EXPECT_EQ(out[4 * i + 2], 2 * in[i] + 1);
    EXPECT_EQ(out[4 * i + 3], i ^ 1);
  }
}
TEST_P(Conformance, DivergedLanesShuffleAmongThemselves) {
  const Words in = scattered(32);
  EXPECT_EQ(run("shuffle_two_masks", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[i & 1 ? i ^ 2 : i ^ 4]; }));
}
TEST_P(Conformance, ReturnedLanesNeedNotBeNamed) {
  const Words in = scattered(32);
  EXPECT_EQ(run("exited_lanes", 1, 32, in, Words(32, 5)),
            made(32, [&](Word i) { return i < 20 ? in[19 - i] : 5; }));
}

// Extensions, "Warp Vote Functions", "Warp Match Functions", "Warp Reduce Functions".
TEST_P(Conformance, Ballot) {
  const Words in = scattered(32);
  Word expected = 0;
  for (Word i = 0; i < 32; ++i) expected |= static_cast<Word>(in[i] % 3 == 0) << i;
  EXPECT_EQ(run("ballot", 1, 32, in, Words(32)), Words(32, expected));
  EXPECT_EQ(run("ballot_part", 1, 32, in, Words(32, 9)),
            made(32, [&](Word i) { return i < 12 ? expected & 0xfff : 9; }));
}
TEST_P(Conformance, AnyAll) {
  EXPECT_EQ(run("any_all", 1, 32, counting(32), Words(32)), Words(32, 8));  // in[0] = 0, not all below 8
  EXPECT_EQ(run("any_all", 1, 32, Words(32, 2), Words(32)), Words(32, 1 | 2 | 8));
  EXPECT_EQ(run("any_all", 1, 32, Words(32, 1001), Words(32)), Words(32, 1 | 4 | 8));
}
TEST_P(Conformance, Match) {
  const Words in = counting(32);
  EXPECT_EQ(run("match_any", 1, 32, in, Words(32)), made(32, [](Word i) {
              Word lanes = 0;
              for (Word j = i % 5; j < 32; j += 5) lanes |= 1u << j;
              return lanes;
            }));
  EXPECT_EQ(run("match_all", 1, 32, in, Words(64)), Words(64, 0));
  EXPECT_EQ(run("match_all", 1, 32, Words(32, 4), Words(64)),
            made(64, [](Word i) { return i % 2 ? 1 : 0xffffffffu; }));
}
TEST_P(Conformance, WarpReduceFunctions) {
  int major = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  if (major < 8) GTEST_SKIP() << "of compute capability 8.0 and higher";
  const Words in = made(32, [](Word i) { return i * 37 % 101 + 256; });
  Words expected = {0, ~0u, 0, ~0u, 0, 0, 0};
  for (const Word v : in) {
    expected[0] += v;
    expected[1] = std::min(expected[1], v);
    expected[2] = std::max(expected[2], v);
    expected[3] &= v | 0xf0u;
    expected[4] |= v;
    expected[5] ^= v;
  }
  expected[6] = expected[1] - 100;
  const Words out = run("warp_reduce_functions", 1, 32, in, Words(7 * 32));
  for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], expected[i % 7]) << i;
}

// Extensions, "Synchronization Functions".
TEST_P(Conformance, BarrierVotes) {
  for (const unsigned threads : {1u, 31u, 33u, 96u, 1024u}) {
    const Words in = counting(threads);
    const Words out = run("barrier_votes", 1, threads, in, Words(3 * threads));
    for (unsigned i = 0; i < threads; ++i) {
      EXPECT_EQ(out[3 * i], (threads + 2) / 3);
      EXPECT_EQ(out[3 * i + 1], threads == 1);
      EXPECT_EQ(out[3 * i + 2], 1u);
    }
  }
}
TEST_P(Conformance, BarrierInABranchThatAllTake) {
  const Words in = scattered(96);
  EXPECT_EQ(run("barrier_uniform_branch", 1, 96, in, Words(96)),
            made(96, [&](Word i) { return in[95 - i]; }));
}
TEST_P(Conformance, WarpBarrierOrdersSharedMemory) {
  const Words in = scattered(64);
  EXPECT_EQ(run("warp_barrier", 1, 64, in, Words(64)), made(64, [&](Word i) { return in[i ^ 31]; }));
  EXPECT_EQ(run("warp_barrier_part", 1, 32, in, Words(32)),
            made(32, [&](Word i) { return in[i < 8 ? 7 - i : 39 - i]; }));
}
TEST_P(Conformance, ManyBarriers) {
  for (const unsigned threads : {7u, 32u, 100u, 1024u}) {
    const Words in = counting(threads, 1);
    EXPECT_EQ(run("scan", 1, threads, in, Words(threads)),
              made(threads, [](Word i) { return (i + 1) * (i + 2) / 2; }));
  }
}

// Extensions, "Variable Memory Space Specifiers", "Execution Configuration".
TEST_P(Conformance, StaticSharedMemory) {
  const Words in = scattered(256);
  EXPECT_EQ(run("shared_static_2d", 1, dim3(16, 16), in, Words(256)),
            made(256, [&](Word i) { return in[i % 16 * 16 + i / 16]; }));
}
TEST_P(Conformance, DynamicSharedMemoryIsTheBlocksOwn) {
  for (const unsigned threads : {1u, 50u, 1024u}) {
    const Words in = scattered(5 * threads);
    EXPECT_EQ(
        run("shared_dynamic", 5, threads, in, Words(5 * threads), threads * sizeof(Word)),
        made(5 * threads, [&](Word i) { return in[i / threads * threads + threads - 1 - i % threads]; }));
  }
}
TEST_P(Conformance, LocalArraysAreTheThreadsOwn) {
  const Words in = scattered(300);
  EXPECT_EQ(run("local_arrays", 1, 300, in, Words(300)), made(300, [&](Word i) { return in[i] * 2016u; }));
}
TEST_P(Conformance, ConstantMemory) {
  ASSERT_EQ(set_constant({5, 6, 7, 8}), cudaSuccess);
  EXPECT_EQ(run("constant_memory", 2, 4, {0}, Words(8)), (Words{5, 6, 7, 8, 5, 6, 7, 8}));
}

// Extensions, "Atomic Functions": each returns the old value.
TEST_P(Conformance, AtomicsOnIntegers) {
  const Words in = counting(100);
  const Words out = run("atomics_integer", 1, 100, in, [] {
    Words start(108);
    start[1] = 1000;
    start[4] = 0xffff;
    return start;
  }());
  EXPECT_EQ(out[0], 100u);
  EXPECT_EQ(out[1], 800u);
  EXPECT_EQ(static_cast<int>(out[2]), -50);
  EXPECT_EQ(static_cast<int>(out[3]), 49);
  EXPECT_EQ(out[4], 0xff00u);
  EXPECT_EQ(out[5], 0xffu);
  EXPECT_EQ(out[6], 0u);  // 0 ^ 1 ^ ... ^ 99
  EXPECT_EQ(out[7], 0u);  // counts 0 ... 9 and around: 100 steps
  EXPECT_EQ(std::set<Word>(out.begin() + 8, out.end()).size(), 100u);
}
TEST_P(Conformance, AtomicsReturnTheOldValue) {
  // 5, 4, 3, 2, 1, 0, 5, ...: every thread gets one, and the variable holds what comes next.
  Words out = run("atomic_dec", 1, 50, {0}, Words(51));
  EXPECT_EQ(out[0], 4u);  // from 0: 0, 5, 4, 3, 2, 1 | 0, ... the 50th step is the 2nd of a round
  EXPECT_EQ(std::count(out.begin() + 1, out.end(), 0u), 9);
  EXPECT_EQ(std::count(out.begin() + 1, out.end(), 5u), 9);
  EXPECT_EQ(std::count(out.begin() + 1, out.end(), 1u), 8);

  out = run("atomic_exchange", 1, 50, {0}, Words(51, 1));
  Words seen(out);
  std::sort(seen.begin(), seen.end());  // a chain: all values but one were read once, the last is still there
  Words expected = counting(50, 100);
  expected.insert(expected.begin(), 1);
  EXPECT_EQ(seen, expected);

  out = run("atomic_cas", 1, 50, {0}, Words(51, 7));
  EXPECT_EQ(std::count(out.begin() + 1, out.end(), 7u), 1);  // one thread won
  const auto winner = static_cast<Word>(std::find(out.begin() + 1, out.end(), 7u) - out.begin()) - 1;
  EXPECT_EQ(out[0], winner + 100);
}
TEST_P(Conformance, AtomicsOnWideAndFloatingTypes) {
  const Words out = run("atomics_wide", 1, 100, counting(100), Words(8));
  const auto at64 = [&](std::size_t i) { return std::uint64_t{out[i + 1]} << 32 | out[i]; };
  EXPECT_EQ(at64(0), (std::uint64_t{1} << 33) * 100 + 4950);
  EXPECT_EQ(out[2], bits(4950.0f));
  EXPECT_EQ(std::bit_cast<double>(at64(4)), 50.0);
  EXPECT_EQ(at64(6), std::uint64_t{1} << 39);
}
TEST_P(Conformance, AtomicsOnPairsOfHalves) {
  const Words out = run("atomics_half", 1, 64, {0}, Words(2));
  EXPECT_EQ(out[0], 0x5800u << 16 | 0x5400u);  // fp16 128 and 64
  EXPECT_EQ(out[1], 0xc280u << 16 | 0x4200u);  // bf16 -64 and 32
}
TEST_P(Conformance, AtomicsOnSharedMemory) {
  EXPECT_EQ(run("atomics_shared", 1, 103, counting(103), Words(10)),
            (Words{11, 11, 11, 10, 10, 10, 10, 10, 10, 10}));
}
TEST_P(Conformance,
       ThreadsOfAWarpProgressIndependently) {  // "SIMT Architecture", Independent Thread Scheduling
  const Words out = run("spin_lock", 2, 64, {0}, Words(2));
  EXPECT_EQ(out, (Words{0, 2 * 63 * 64 / 2}));
}
TEST_P(Conformance,
       LastBlockSeesWhatOthersFenced) {  // Extensions, "Memory Fence Functions", the example there
  const Words in = counting(7 * 64);
  EXPECT_EQ(run("last_block", 7, 64, in, Words(9))[1], 7u * 32u);
}

// CUDA Math API, "Bfloat16 Precision Conversion", "Half Precision Conversion": _rn, ties to even.
TEST_P(Conformance, RoundingToBfloat16) {
  const Words in = {0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800000,
                    0x00008000, 0x00018000, 0x80000001, 0xff7f8000, 0x7f800001};
  const Words out = run("round_bf16", 1, 11, in, Words(11));
  const Words expected = {0x3f800000, 0x3f800000, 0x3f820000, 0x3f810000, 0x7f800000,
                          0x7f800000, 0x00000000, 0x00020000, 0x80000000, 0xff800000};
  EXPECT_EQ(Words(out.begin(), out.end() - 1), expected);
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(out[10])));
  const Words many = scattered(1000);  // any bits: the host's own type is the oracle
  EXPECT_EQ(run("round_bf16", 1, 1000, many, Words(1000)), made(1000, [&](Word i) {
              const float x = std::bit_cast<float>(many[i]);
              return std::isnan(x) ? 0x7fff0000u : bits(static_cast<float>(BFloat16(x)));
            }));
}
TEST_P(Conformance, RoundingToHalf) {
  const float in[] = {1.0f,     1.00048828125f, 1.00146484375f, 65504.0f,  65519.9f,
                      65520.0f, 5.9604645e-8f,  2.9802322e-8f,  2.981e-8f, 6.1035156e-5f,
                      -0.0f,    1e30f,          -1e30f,         0.1f};
  const float expected[] = {1.0f,     1.0f,          1.001953125f, 65504.0f,        65504.0f,
                            INFINITY, 5.9604645e-8f, 0.0f,         5.9604645e-8f,   6.1035156e-5f,
                            -0.0f,    INFINITY,      -INFINITY,    0.0999755859375f};
  const Words out = run("round_fp16", 1, 14, made(14, [&](Word i) { return bits(in[i]); }), Words(14));
  for (std::size_t i = 0; i < 14; ++i) EXPECT_EQ(out[i], bits(expected[i])) << in[i];
}
TEST_P(Conformance, FloatToInteger) {  // PTX ISA, cvt: saturates, NaN gives 0
  const float in[] = {2.5f, -2.5f, 3.5f, 1e10f, -1e10f, NAN, -0.7f, 4.3e9f};
  const int towards_zero[] = {2, -2, 3, INT32_MAX, INT32_MIN, 0, 0, INT32_MAX};
  const int nearest[] = {2, -2, 4, INT32_MAX, INT32_MIN, 0, -1, INT32_MAX};
  const Word unsigned_zero[] = {2, 0, 3, UINT32_MAX, 0, 0, 0, UINT32_MAX};
  const Words out = run("to_integer", 1, 8, made(8, [&](Word i) { return bits(in[i]); }), Words(24));
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(static_cast<int>(out[3 * i]), towards_zero[i]) << in[i];
    EXPECT_EQ(static_cast<int>(out[3 * i + 1]), nearest[i]) << in[i];
    EXPECT_EQ(out[3 * i + 2], unsigned_zero[i]) << in[i];
  }
}
TEST_P(Conformance, MinimumAndMaximumGiveWayToNumbers) {  // CUDA Math API, fminf, fmaxf
  const Words in = {bits(1.0f),  bits(2.0f), bits(NAN),      bits(3.0f),
                    bits(-4.0f), bits(NAN),  bits(INFINITY), bits(5.0f)};
  const Words out = run("min_max", 1, 4, in, Words(8));
  const float expected[] = {1.0f, 2.0f, 3.0f, 3.0f, -4.0f, -4.0f, 5.0f, INFINITY};
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(out[i], bits(expected[i])) << i;
}
TEST_P(Conformance, IntegerIntrinsics) {  // CUDA Math API, "Integer Intrinsics"
  const Words in = {0x00000000, 0x00010000, 0x8000f00f, 0xffffffff};
  const Words out = run("bits", 1, 4, in, Words(36));
  EXPECT_EQ(out[0], 0u);
  EXPECT_EQ(out[1], 32u);
  EXPECT_EQ(out[2], 0u);
  EXPECT_EQ(out[9], 1u);
  EXPECT_EQ(out[10], 15u);
  EXPECT_EQ(out[11], 17u);
  EXPECT_EQ(out[12], 0x00008000u);
  EXPECT_EQ(out[13], 0x00001234u);
  EXPECT_EQ(out[18], 9u);
  EXPECT_EQ(out[21], 0xf00f0001u);
  EXPECT_EQ(out[22], static_cast<Word>((std::uint64_t{0x8000f00f} * 0x12345678u) >> 32));
  EXPECT_EQ(out[23], 0xc300f00fu);  // bytes 0, 1, 2 of x, byte 1 of y
  EXPECT_EQ(out[24],
            0x0f0fa180u);  // byte 3 of x, byte 3 of y, byte 0 of x twice
  EXPECT_EQ(out[34], static_cast<Word>(((std::uint64_t{0xa1b2c3d4} << 32 | 0xffffffffu) << 12) >> 32));
  EXPECT_EQ(out[35], static_cast<Word>((std::uint64_t{0xa1b2c3d4} << 32 | 0xffffffffu) >> 8));
}
TEST_P(Conformance, VectorLoadsAndStores) {  // "Device Memory Accesses": 16 bytes at once
  const Words in = scattered(4 * 40);
  EXPECT_EQ(run("vectors", 1, 40, in, Words(160)),
            made(160, [&](Word i) { return in[i / 4 * 4 + 3 - i % 4]; }));
}

// Extensions, "Execution Configuration": a launch outside the limits fails and runs nothing.
TEST(ConformanceLaunch, LimitsAreChecked) {
  Word* p = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&p), 4096), cudaSuccess);
#if defined(CAIRN_CUDA_EMU)
  emu::print_reports(false);
#endif
  EXPECT_FALSE(run_program("indices", 0, 32, 0, p, p).ok());
  EXPECT_FALSE(run_program("indices", 1, 0, 0, p, p).ok());
  EXPECT_FALSE(run_program("indices", 1, 1025, 0, p, p).ok());
  EXPECT_FALSE(run_program("indices", 1, dim3(32, 33), 0, p, p).ok());
  EXPECT_FALSE(run_program("indices", dim3(1, 65536), 1, 0, p, p).ok());
  EXPECT_FALSE(run_program("indices", 1, dim3(1, 1, 65), 0, p, p).ok());
  EXPECT_FALSE(run_program("indices", 1, 1, 1024 * 1024, p, p).ok());
  EXPECT_TRUE(run_program("indices", 1, 1, 48 * 1024, p, p).ok());
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
#if defined(CAIRN_CUDA_EMU)
  emu::print_reports(true);
  EXPECT_EQ(emu::take_reports().size(), 7u);
#endif
}

}  // namespace
}  // namespace cairn::kernels
