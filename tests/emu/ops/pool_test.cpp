// Special values in max pooling, one channel and whole groups of them; everything else is in the op cases.
#include "kernels/pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "engine/autograd.h"
#include "engine/tensor.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

const OwnMemory kOwnMemory;

class EmulatedPool : public NoReportsTest, public testing::WithParamInterface<DType> {};

// The four windows: a NaN behind another value, a NaN before one, equal infinities, nothing but -infinity.
TEST_P(EmulatedPool, MaxOfNanAndInfinities) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(),
                   infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> pixels = {1,        nan,      nan,       5,          //
                                      9,        2,        6,         7,          //
                                      infinity, 1,        -infinity, -infinity,  //
                                      1,        infinity, -infinity, -infinity};
  const double want[] = {nan, nan, infinity, -infinity};
  const int places[] = {1, 0, 0, 0},
            places_relu[] = {kernels::kNoWinner, kernels::kNoWinner, 0, kernels::kNoWinner};
  for (const std::int64_t channels : {1, 3, 16})
    for (const bool relu : {false, true}) {
      std::vector<double> values;
      for (const double v : pixels) values.insert(values.end(), static_cast<std::size_t>(channels), v);
      const Tensor x = from_doubles({1, 4, 4, channels}, values, GetParam(), kCuda);
      const Tensor y = empty({1, 2, 2, channels}, GetParam(), kCuda),
                   index = empty({1, 2, 2, channels}, DType::u8, kCuda);
      call(kernels::max_pool2d_forward, x.queue(),
           {.x = x.view(),
            .y = y.inplace(),
            .index = index.inplace(),
            .geometry = {},
            .activation = relu ? kernels::Activation::relu : kernels::Activation::none});
      const std::vector<double> got = y.to_doubles();
      const std::vector<std::uint8_t> winners = index.to_vector<std::uint8_t>();
      for (std::size_t i = 0; i < got.size(); ++i) {
        const std::size_t window = i / static_cast<std::size_t>(channels);
        const std::string where = "window " + std::to_string(window) + (relu ? " relu" : "");
        if (window < 2)
          EXPECT_TRUE(std::isnan(got[i])) << where << ": " << got[i];
        else
          EXPECT_EQ(got[i], relu ? std::max(want[window], 0.0) : want[window]) << where;
        EXPECT_EQ(winners[i], (relu ? places_relu : places)[window]) << where;
      }
    }
}

INSTANTIATE_TEST_SUITE_P(CudaEmu, EmulatedPool, testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace cairn
