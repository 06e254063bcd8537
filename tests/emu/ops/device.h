#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "kernels/emu/emu.h"
#include "tests/cases/op_case.h"

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

/// Ops of the table for which the device has no kernel yet. slots_test.cpp shows that each of them truly has
/// none.
inline const std::vector<std::string>& ops_without_kernels() {
  static const std::vector<std::string> names = {
      "conv2d",     "linear",     "matmul",         "batch_norm", "batch_norm_inference",
      "max_pool2d", "avg_pool2d", "global_avg_pool"};
  return names;
}

inline std::vector<cases::OpCase> cases_of_the_device() {
  std::vector<cases::OpCase> all = cases::all_cases();
  std::erase_if(all, [](const cases::OpCase& c) {
    const std::string op = c.name.substr(0, c.name.find('/'));
    return std::count(ops_without_kernels().begin(), ops_without_kernels().end(), op) > 0;
  });
  return all;
}

}  // namespace cairn
