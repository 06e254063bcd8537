// Pointers off 16 bytes, every tail of a 16-byte group, grids that go round more than once, and special
// values: the same results as from the CPU backend's kernels, which have oracles of their own.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

const OwnMemory kOwnMemory;

class EmulatedElementwise : public NoReportsTest {};

std::vector<double> ramp(std::int64_t n) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i)
    v[static_cast<std::size_t>(i)] = static_cast<double>((i * 37) % 101 - 50) / 16;
  return v;
}

// A tensor of n elements that starts `offset` elements into its memory.
Tensor shifted(std::int64_t n, std::int64_t offset, DType dtype, Device device) {
  return from_doubles({n + offset}, ramp(n + offset), dtype, device).alias({n}, offset);
}

template <class Op>
void expect_as_on_the_cpu(DType dtype, Op&& op) {
  for (const std::int64_t offset_x : {0, 1, 3})
    for (const std::int64_t offset_y : {0, 1})
      for (const std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33}) {
        std::vector<double> results[2];
        // fp16 has no CPU kernel: fp32 there, and the one rounding after it.
        const DType on_cpu = dtype == DType::f16 ? DType::f32 : dtype;
        for (const Device device : {Device{}, kCuda}) {
          const DType t = device == Device{} ? on_cpu : dtype;
          const Tensor x = shifted(n, offset_x, t, device), y = shifted(n, offset_y, t, device);
          op(x, y);
          results[device == kCuda] = (device == Device{} ? y.to(dtype) : y).to_doubles();
        }
        ASSERT_EQ(results[1], results[0])
            << name_of(dtype) << " n " << n << " offsets " << offset_x << ' ' << offset_y;
      }
}

TEST_F(EmulatedElementwise, AnyAlignmentAndTail) {
  using kernels::Write;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    expect_as_on_the_cpu(dtype, [](const Tensor& x, const Tensor& y) {
      call(kernels::relu_forward, x.queue(), {x.view(), y.inplace()});
    });
    expect_as_on_the_cpu(dtype, [](const Tensor& x, const Tensor& y) {
      call(kernels::affine, x.queue(), {x.view(), y.inplace(), 0.5f, 0.25f, Write::add});
    });
    expect_as_on_the_cpu(dtype, [](const Tensor& x, const Tensor& y) {
      call(kernels::binary_forward, x.queue(),
           {kernels::BinaryOp::mul, x.view(), x.view(), y.inplace(), 0.5, Write::assign});
    });
    expect_as_on_the_cpu(dtype, [](const Tensor&, const Tensor& y) {
      call(kernels::fill_value, y.queue(), {y.inplace(), -1.75});
    });
    expect_as_on_the_cpu(dtype, [](const Tensor& x, const Tensor& y) {
      call(kernels::cast, x.queue(), {x.view(), y.inplace(), Write::add});
    });
  }
}

TEST_F(EmulatedElementwise, CastsRoundAsTheCpuDoes) {
  std::vector<double> values = ramp(40);
  // Halves between two 16-bit values, just above and below, subnormals, overflow, infinities, NaN.
  for (const double v : {1.0 + 0x1p-8, 1.0 + 0x1p-8 + 0x1p-40, 1.0 + 0x1p-11, 1.0 + 3 * 0x1p-11, 65519.0,
                         65520.0, 1e39, 1e-8, 5.9e-8, 1e-45, -0.0, HUGE_VAL, -HUGE_VAL, std::nan("")})
    values.push_back(v);
  const auto n = static_cast<std::int64_t>(values.size());
  for (const DType from : {DType::f64, DType::f32, DType::bf16, DType::f16})
    for (const DType to : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      const auto cast_on = [&](Device device) {
        return from_doubles({n}, values, DType::f64, device).to(from).to(to).to_doubles();
      };
      const std::vector<double> got = cast_on(kCuda), want = cast_on(Device{});
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (std::isnan(want[i])) {
          EXPECT_TRUE(std::isnan(got[i])) << values[i];
        } else {
          EXPECT_EQ(got[i], want[i]) << values[i] << ' ' << name_of(from) << " to " << name_of(to);
        }
      }
    }
}

TEST_F(EmulatedElementwise, NaNAndInfinityPass) {
  const std::vector<double> x = {std::nan(""), HUGE_VAL, -HUGE_VAL, -0.0, 1.0};
  const Tensor t = from_doubles({5}, x, DType::f32, kCuda);
  const auto y = relu(t).to_doubles();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], HUGE_VAL);
  EXPECT_EQ(y[2], 0.0);
  EXPECT_TRUE(std::isnan(exp(t).to_doubles()[0]));
  EXPECT_EQ(exp(t).to_doubles()[2], 0.0);
  EXPECT_EQ(tanh(t).to_doubles()[1], 1.0);
  EXPECT_EQ(sigmoid(t).to_doubles()[2], 0.0);
  EXPECT_EQ(log(t).to_doubles()[3], -HUGE_VAL);
}

// Every thread of every block may want to raise the one flag.
TEST_F(EmulatedElementwise, ValuesThatAreNotFiniteRaiseTheFlag) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const double value : {1.0, std::nan(""), HUGE_VAL}) {
      const Tensor x = full({5000}, value, dtype, kCuda), flag = zeros({1}, DType::i32, kCuda);
      call(kernels::check_finite, x.queue(), {.x = x.view(), .flag = flag.inplace()});
      EXPECT_EQ(flag.to_vector<std::int32_t>()[0], value == 1.0 ? 0 : 1) << name_of(dtype) << ' ' << value;
    }
}

TEST_F(EmulatedElementwise, EmptyTensorsLaunchNothing) {
  const Tensor x = zeros({0}, DType::f32, kCuda);
  EXPECT_TRUE(relu(x).to_doubles().empty());
  EXPECT_TRUE(add(x, x).to_doubles().empty());
  EXPECT_TRUE(permute(zeros({0, 3}, DType::f32, kCuda), {1, 0}).to_doubles().empty());
}

TEST_F(EmulatedElementwise, PermutesOfEveryTypeAndShape) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape :
         {Shape{2, 3, 4, 5}, Shape{1, 33, 2, 31}, Shape{3, 1, 40, 8}, Shape{2, 8, 8, 32}}) {
      const std::vector<double> values = ramp(shape.numel());
      std::vector<int> order = {0, 1, 2, 3};
      do {
        const auto on = [&](Device device) {
          return permute(from_doubles(shape, values, dtype, device), order).to_doubles();
        };
        ASSERT_EQ(on(kCuda), on(Device{})) << to_string(shape) << ' ' << name_of(dtype);
      } while (std::next_permutation(order.begin(), order.end()));
    }
}

// More tiles than a grid has blocks (grid_for): some turn a second tile round in the same shared memory.
TEST_F(EmulatedElementwise, PermutesMoreTilesThanBlocks) {
  const Shape shape{132 * 32 + 5, 2, 3};
  const std::vector<double> values = ramp(shape.numel());
  const auto on = [&](Device device) {
    return permute(from_doubles(shape, values, DType::f32, device), {0, 2, 1}).to_doubles();
  };
  EXPECT_EQ(on(kCuda), on(Device{}));
}

}  // namespace
}  // namespace cairn
