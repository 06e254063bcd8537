// The mask on the emulated device is the CPU's, bit for bit, at every offset into the stream of words.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/philox.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

const OwnMemory kOwnMemory;

class EmulatedDropout : public NoReportsTest {};

// Values of dropout of n ones; NaN never, as a dropped element is 0.
std::vector<double> dropped(std::int64_t n, float p, std::int64_t first, std::int64_t step, DType dtype,
                            Device device) {
  const std::vector<std::int64_t> steps = {step};
  DropoutKey key;
  key.seed = 0x123456789abcdefull;
  key.stream = philox_stream(kStreamDropout, 3);
  key.first_index = first;
  if (step != 0) key.step = from_values<std::int64_t>({1}, steps, device);
  return dropout(full({n}, 1.0, dtype, device), p, key).to_doubles();
}

TEST_F(EmulatedDropout, MaskIsTheCpusBitForBit) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const std::int64_t first : {0, 1, 2, 3, 4, 4093})
      for (const std::int64_t n : {1, 3, 4, 7, 8, 9, 255, 1030})
        for (const std::int64_t step : {0, 5}) {
          const auto got = dropped(n, 0.3f, first, step, dtype, kCuda);
          const auto want = dropped(n, 0.3f, first, step, DType::f32, Device{});  // kept values: 1 / 0.7
          for (std::size_t i = 0; i < got.size(); ++i) {
            ASSERT_EQ(got[i] == 0.0, want[i] == 0.0)
                << name_of(dtype) << " first " << first << " n " << n << " at " << i;
            const double eps = dtype == DType::f32 ? 0x1p-23 : dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
            ASSERT_NEAR(got[i], want[i], eps * want[i]);
          }
        }
}

TEST_F(EmulatedDropout, ShareOfDroppedElementsFollowsP) {
  constexpr std::int64_t n = 1 << 14;
  for (const float p : {0.0f, 0.1f, 0.5f, 0.9f}) {
    std::int64_t zeros = 0;
    for (const double v : dropped(n, p, 0, 0, DType::f32, kCuda)) zeros += v == 0.0;
    const double q = static_cast<double>(p);
    EXPECT_NEAR(static_cast<double>(zeros) / n, q, 5 * std::sqrt(q * (1 - q) / n) + 1e-12)
        << p;  // five sigma
  }
}

}  // namespace
}  // namespace cairn
