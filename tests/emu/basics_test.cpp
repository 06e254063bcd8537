#include "tests/emu/basics.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/emu/emu.h"

namespace cairn::kernels {
namespace {

TEST(Basics, ScaleAndBlockSum) {
  const int n = 1000;
  std::vector<float> x(n), y(n), sums(4);
  std::iota(x.begin(), x.end(), 1.0f);
  auto* dx = static_cast<float*>(emu::device_malloc(n * 4));
  auto* dy = static_cast<float*>(emu::device_malloc(n * 4));
  auto* ds = static_cast<float*>(emu::device_malloc(4 * 4));
  emu::device_write(dx, x.data(), n * 4);
  for (const emu::Order order : {emu::Order::forward, emu::Order::reverse, emu::Order::random}) {
    emu::set_order(order, 7);
    ASSERT_TRUE(run_scale(dx, dy, 3.0f, n, nullptr).ok());
    ASSERT_TRUE(run_block_sum(dy, ds, n, nullptr).ok());
    emu::device_read(y.data(), dy, n * 4);
    emu::device_read(sums.data(), ds, 4 * 4);
    for (int i = 0; i < n; ++i) EXPECT_EQ(y[i], 3.0f * x[i]);
    EXPECT_EQ(sums[0], 3.0f * 256 * 257 / 2);
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0.0f), 3.0f * 1000 * 1001 / 2);
  }
  emu::set_order(emu::Order::forward);
  EXPECT_TRUE(emu::take_reports().empty());
  EXPECT_TRUE(emu::device_free(dx) && emu::device_free(dy) && emu::device_free(ds));
}

}  // namespace
}  // namespace cairn::kernels
