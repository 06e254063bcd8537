#include "kernels/cpu/winograd.h"

#include "kernels/cpu/cpu_info.h"
#include "tests/kernels/conv_oracle.h"

namespace cairn::kernels {
namespace {

const std::vector<ConvCase>& cases() {
  static const std::vector<ConvCase> all = {
      {{2, 30, 33, 32}, {48, 3, 3, 32}, {1, 1, 1, 1, 1, 1, 1}},  // 3 x 9 pixels outside the image a tile row
      {{1, 36, 34, 16}, {80, 3, 3, 16}, {1, 1, 0, 0, 1, 1, 1}},  // a whole panel of filters and a part
      {{3, 17, 18, 48}, {16, 3, 3, 48}, {1, 1, 2, 1, 1, 1, 1}},
      {{24, 3, 6, 16}, {16, 3, 3, 16}, {1, 1, 1, 1, 1, 1, 1}},
  };
  return all;
}

/// The transforms cancel: F(4x4, 3x3) at these points errs two to three times as much as direct convolution.
constexpr double kAmplification = 4;

using Values = std::vector<double>;

class WinogradTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (dtype() == DType::bf16 && cpu_info().amx_bf16) GTEST_SKIP() << "tiles serve bf16 here";
  }
  /// Values as they are kept, and filters as the kernels use them.
  Values random(const Shape& shape, std::uint32_t seed) const { return random_values(dtype(), shape, seed); }
  Values filters(const Shape& shape, std::uint32_t seed) const {
    Values v = random_values(DType::f32, shape, seed);
    for (double& e : v) e = rounded(dtype(), e);
    return v;
  }
  /// All sums are fp32, and what is kept in `out` is rounded to it once.
  static double tolerance(DType out, double want, double norm, double length) {
    return kAmplification * sum_tolerance(DType::f32, want, norm, length) +
           (out == DType::f32 ? 0 : rounding_of(out) * std::abs(want));
  }
};

TEST_P(WinogradTest, Forward) {
  for (const ConvCase& c : cases()) {
    const Values x = random(c.x, 1), w = random_values(DType::f32, c.w, 2), residual = random(c.y(), 4);
    const Values bias = random_values(DType::f32, {c.w[0]}, 3);
    const ConvOracle oracle(c, x, filters(c.w, 2), residual);
    const Buffer xb(dtype(), c.x, x), wb(DType::f32, c.w, w), bb(DType::f32, {c.w[0]}, bias),
        rb(dtype(), c.y(), residual);
    for (int variant = 0; variant < 8; ++variant) {
      Buffer y(dtype(), c.y());
      const Conv2dForward args{.x = xb.in(),
                               .w = wb.in(),
                               .bias = variant & 1 ? bb.in() : ConstView{},
                               .residual = variant & 2 ? rb.in() : ConstView{},
                               .y = y.view(),
                               .geometry = c.g,
                               .activation = variant & 4 ? Activation::relu : Activation::none};
      ASSERT_TRUE(winograd::suits(args)) << c.name();
      run(conv2d_forward, args);
      std::vector<double> want = oracle.y;
      for (std::size_t i = 0; i < want.size(); ++i) {
        if (variant & 1) want[i] += bias[i % bias.size()];
        if (variant & 2) want[i] += residual[i];
        if (variant & 4) want[i] = std::max(want[i], 0.0);
      }
      const double length = static_cast<double>(9 * c.w[3]);
      expect_within(
          y, want, [&](std::size_t i) { return tolerance(dtype(), want[i], oracle.y_norm[i] + 2, length); },
          c.name() + " variant " + std::to_string(variant));
      if (variant > 0 || dtype() != DType::f32) continue;
      // Root mean square over root mean square: what a training run sees.
      double error = 0, size = 0;
      for (std::size_t i = 0; i < want.size(); ++i) {
        error += std::pow(y.at(static_cast<std::int64_t>(i)) - want[i], 2);
        size += want[i] * want[i];
      }
      EXPECT_LT(std::sqrt(error / size), 2e-6)
          << c.name();  // measured at ResNet-18's shapes: 6e-7 to 1.6e-6, direct 3e-7 to 7e-7
    }
  }
}

TEST_P(WinogradTest, BackwardData) {
  for (const ConvCase& c : cases()) {
    const Values dy = random(c.y(), 1), w = random_values(DType::f32, c.w, 2), before = random(c.x, 3);
    const ConvOracle oracle(c, before, filters(c.w, 2), dy);
    const Buffer dyb(dtype(), c.y(), dy), wb(DType::f32, c.w, w);
    for (const Write write : {Write::assign, Write::add}) {
      Buffer dx(dtype(), c.x, before);
      const Conv2dBackwardData args{
          .dy = dyb.in(), .w = wb.in(), .dx = dx.view(), .geometry = c.g, .write = write};
      ASSERT_TRUE(winograd::suits(args)) << c.name();
      run(conv2d_backward_data, args);
      const std::vector<double> want = write == Write::add ? added(oracle.dx, before) : oracle.dx;
      const double length = static_cast<double>(9 * c.w[0]);
      expect_within(
          dx, want, [&](std::size_t i) { return tolerance(dtype(), want[i], oracle.dx_norm[i] + 1, length); },
          c.name());
    }
  }
}

TEST_P(WinogradTest, BackwardWeight) {
  for (const ConvCase& c : cases()) {
    const Values x = random(c.x, 1), dy = random(c.y(), 2);
    const Values before = random_values(DType::f32, c.w, 3),
                 bias_before = random_values(DType::f32, {c.w[0]}, 4);
    const ConvOracle oracle(c, x, before, dy);
    std::vector<double> bias_sum(bias_before.size());
    for (std::size_t i = 0; i < dy.size(); ++i) bias_sum[i % bias_sum.size()] += dy[i];
    const Buffer xb(dtype(), c.x, x), dyb(dtype(), c.y(), dy);
    for (const Write write : {Write::assign, Write::add}) {
      Buffer dw(DType::f32, c.w, before), dbias(DType::f32, {c.w[0]}, bias_before);
      const Conv2dBackwardWeight args{.x = xb.in(),
                                      .dy = dyb.in(),
                                      .dw = dw.view(),
                                      .dbias = dbias.view(),
                                      .geometry = c.g,
                                      .write = write,
                                      .dbias_write = write};
      ASSERT_TRUE(winograd::suits(args)) << c.name();
      run(conv2d_backward_weight, args);
      const bool add = write == Write::add;
      const std::vector<double> want = add ? added(oracle.dw, before) : oracle.dw;
      const std::vector<double> want_bias = add ? added(bias_sum, bias_before) : bias_sum;
      const Shape y = c.y();
      const double length = static_cast<double>(y[0] * y[1] * y[2]);
      expect_within(
          dw, want,
          [&](std::size_t i) { return tolerance(DType::f32, want[i], oracle.dw_norm[i] + 1, length); },
          c.name());
      expect_within(
          dbias, want_bias,
          [&](std::size_t i) {
            return sum_tolerance(DType::f32, want_bias[i], std::sqrt(length) + 1, length);
          },
          c.name() + " dbias");
    }
  }
}

TEST_P(WinogradTest, CanBeSwitchedOff) {
  const ConvCase& c = cases()[0];
  const Buffer x(dtype(), c.x), w(DType::f32, c.w);
  Buffer y(dtype(), c.y());
  const Conv2dForward args{
      .x = x.in(), .w = w.in(), .bias = {}, .residual = {}, .y = y.view(), .geometry = c.g};
  winograd::set_enabled(false);
  EXPECT_FALSE(winograd::suits(args));
  winograd::set_enabled(true);
  EXPECT_TRUE(winograd::suits(args));
}

INSTANTIATE_TEST_SUITE_P(Cpu, WinogradTest, kernel_cases({DType::f32, DType::bf16}), kernel_case_name);

}  // namespace
}  // namespace cairn::kernels
