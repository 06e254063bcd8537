#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "engine/device.h"
#include "kernels/emu/emu.h"

namespace cairn {

inline constexpr Device kEmulated{DeviceType::cuda_emu, 0};

/// Every tensor has memory of its own that ends close to a page that faults: an overrun is seen. Made before
/// the engine's allocator is. cairn's own kernels are what is tested: NVIDIA's libraries stay out.
struct OwnMemory {
  OwnMemory() {
    setenv("CAIRN_ALLOCATOR", "direct", 1);
    setenv("CAIRN_WITHOUT", "cudnn,cublaslt", 1);
    emu::set_heap_alignment(16);
  }
};

/// Fails where the emulated device's checks found something: with plain kernels faults, barriers and warp
/// functions, with checked ones every access.
class NoReportsTest : public testing::Test {
 protected:
  void SetUp() override { (void)emu::take_reports(); }
  void TearDown() override {
    for (const emu::Report& r : emu::take_reports()) ADD_FAILURE() << r.message;
  }
};

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

}  // namespace cairn
