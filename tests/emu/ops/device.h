#pragma once
/// The device on which the tests of CUDA code run: the emulated one, or a GPU in a build with CUDA
/// (tests/gpu).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "engine/device.h"

#if defined(CAIRN_CUDA_EMU)
#include "kernels/emu/emu.h"
#endif

namespace cairn {

#if defined(CAIRN_CUDA_EMU)
inline constexpr Device kEmulated{DeviceType::cuda_emu, 0};
inline constexpr Device kCuda = kEmulated;
#else
inline constexpr Device kCuda{DeviceType::cuda, 0};
#endif

/// Every tensor has memory of its own, on the emulated device such that it ends close to a page that faults:
/// an overrun is seen. Made before the engine's allocator is. cairn's own kernels are what is tested:
/// NVIDIA's libraries stay out.
struct OwnMemory {
  OwnMemory() {
    setenv("CAIRN_ALLOCATOR", "direct", 1);
    setenv("CAIRN_WITHOUT", "cudnn,cublaslt", 1);
#if defined(CAIRN_CUDA_EMU)
    emu::set_heap_alignment(16);
#endif
  }
};

/// Fails where the emulated device's checks found something: with plain kernels faults, barriers and warp
/// functions, with checked ones every access. On a GPU compute-sanitizer looks from outside.
class NoReportsTest : public testing::Test {
#if defined(CAIRN_CUDA_EMU)
 protected:
  void SetUp() override { (void)emu::take_reports(); }
  void TearDown() override {
    for (const emu::Report& r : emu::take_reports()) ADD_FAILURE() << r.message;
  }
#endif
};

#if defined(CAIRN_CUDA_EMU)
/// Runs f in each further order of threads and blocks, and puts the first one back.
template <class F>
void in_other_orders(F&& f) {
  emu::set_order(emu::Order::reverse);
  f("threads in reverse");
  for (const std::uint64_t seed : {1u, 2u}) {
    emu::set_order(emu::Order::random, seed);
    f("threads in random order");
  }
  emu::set_order(emu::Order::forward);
}
#endif

}  // namespace cairn
