#include "kernels/conv.h"

#include "kernels/cpu/conv_plain.h"
#include "kernels/cpu/winograd.h"
#include "tests/kernels/conv_oracle.h"

namespace cairn::kernels {
namespace {

Conv2dGeometry square(int stride, int padding, int dilation = 1, int groups = 1) {
  return {stride, stride, padding, padding, dilation, dilation, groups};
}

const std::vector<ConvCase>& cases() {
  static const std::vector<ConvCase> cases = {
      {{2, 8, 8, 16}, {32, 3, 3, 16}, square(1, 1)},
      {{1, 14, 14, 64}, {64, 3, 3, 64}, square(1, 1)},
      {{2, 15, 13, 3}, {20, 7, 7, 3}, square(2, 3)},
      {{3, 7, 5, 33}, {17, 3, 3, 33}, square(1, 1)},
      {{2, 6, 6, 64}, {128, 1, 1, 64}, square(2, 0)},
      {{1, 1, 1, 7}, {5, 1, 1, 7}, square(1, 0)},
      {{1, 1, 1, 16}, {16, 3, 3, 16}, square(1, 1)},
      {{4, 9, 9, 8}, {8, 2, 2, 8}, square(3, 0)},            // stride over the kernel
      {{2, 11, 10, 5}, {6, 3, 3, 5}, square(1, 2, 2)},       // dilation
      {{2, 8, 9, 12}, {18, 3, 3, 4}, square(1, 1, 1, 3)},    // groups
      {{1, 10, 6, 32}, {32, 3, 3, 1}, square(2, 1, 1, 32)},  // depthwise
      {{2, 12, 5, 10}, {9, 5, 2, 10}, {2, 1, 2, 0, 1, 3, 1}},
      {{2, 13, 30, 20}, {24, 3, 3, 20}, square(1, 0)},
      {{1, 5, 5, 1}, {1, 3, 3, 1}, square(2, 1)},
  };
  return cases;
}

class ConvTest : public ::testing::TestWithParam<std::tuple<std::size_t, DType>> {
 protected:
  void SetUp() override { winograd::set_enabled(false); }  // winograd_test's part
  void TearDown() override { winograd::set_enabled(true); }
  const ConvCase& c = cases()[std::get<0>(GetParam())];
  DType dtype = std::get<1>(GetParam());
  std::vector<double> x = random_values(dtype, c.x, 1), w = random_values(DType::f32, c.w, 2),
                      dy = random_values(dtype, c.y(), 3);
  /// w as the kernels use it
  std::vector<double> used_w() const {
    std::vector<double> v = w;
    for (double& e : v) e = rounded(dtype, e);
    return v;
  }
  ConvOracle oracle{c, x, used_w(), dy};
};

TEST_P(ConvTest, Forward) {
  const double length = static_cast<double>(c.w[1] * c.w[2] * c.w[3]);
  const std::vector<double> bias = random_values(DType::f32, {c.w[0]}, 4);
  const std::vector<double> residual = random_values(dtype, c.y(), 5);
  const Buffer xb(dtype, c.x, x), wb(DType::f32, c.w, w), bb(DType::f32, {c.w[0]}, bias);
  for (int variant = 0; variant < 10; ++variant) {
    const bool has_bias = variant & 1, relu = variant & 2;
    const bool has_residual = variant >= 4, in_place = variant >= 8;
    const Buffer rb(dtype, c.y(), residual);
    Buffer y = in_place ? rb.copy() : Buffer(dtype, c.y());
    std::vector<double> want = oracle.y;
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (has_bias) want[i] += bias[i % static_cast<std::size_t>(c.w[0])];
      if (has_residual) want[i] += residual[i];
      if (relu) want[i] = std::max(want[i], 0.0);
    }
    const Conv2dForward args{.x = xb.in(),
                             .w = wb.in(),
                             .bias = has_bias ? bb.in() : ConstView{},
                             .residual = in_place       ? y.view()
                                         : has_residual ? rb.in()
                                                        : ConstView{},
                             .y = y.view(),
                             .geometry = c.g,
                             .activation = relu ? Activation::relu : Activation::none};
    run(conv2d_forward, args);
    expect_within(
        y, want, [&](std::size_t i) { return sum_tolerance(dtype, want[i], oracle.y_norm[i] + 2, length); },
        c.name() + " variant " + std::to_string(variant));
    if (in_place) continue;
    Buffer again(dtype, c.y());
    Conv2dForward repeat = args;
    repeat.y = again.view();
    run(conv2d_forward, repeat);
    EXPECT_TRUE(y.same_bits(again)) << c.name() << ": two runs differ";
  }
}

TEST_P(ConvTest, BackwardData) {
  const double length = static_cast<double>(c.w[0] / c.g.groups * c.w[1] * c.w[2]);
  const Buffer dyb(dtype, c.y(), dy), wb(DType::f32, c.w, w);
  const std::vector<double> before = random_values(dtype, c.x, 6);
  for (const Write write : {Write::assign, Write::add}) {
    Buffer dx(dtype, c.x, before);
    run(conv2d_backward_data,
        {.dy = dyb.in(), .w = wb.in(), .dx = dx.view(), .geometry = c.g, .write = write});
    std::vector<double> want = oracle.dx;
    if (write == Write::add)
      for (std::size_t i = 0; i < want.size(); ++i) want[i] += before[i];
    expect_within(
        dx, want, [&](std::size_t i) { return sum_tolerance(dtype, want[i], oracle.dx_norm[i] + 1, length); },
        c.name());
    Buffer again(dtype, c.x, before);
    run(conv2d_backward_data,
        {.dy = dyb.in(), .w = wb.in(), .dx = again.view(), .geometry = c.g, .write = write});
    EXPECT_TRUE(dx.same_bits(again)) << c.name() << ": two runs differ";
  }
}

TEST_P(ConvTest, BackwardWeight) {
  const Shape ys = c.y();
  const double length = static_cast<double>(ys[0] * ys[1] * ys[2]);
  const Buffer xb(dtype, c.x, x), dyb(dtype, ys, dy);
  const std::vector<double> before = random_values(DType::f32, c.w, 7);
  const std::vector<double> bias_before = random_values(DType::f32, {c.w[0]}, 8);
  std::vector<double> bias_sum(static_cast<std::size_t>(c.w[0]));
  for (std::size_t i = 0; i < dy.size(); ++i) bias_sum[i % bias_sum.size()] += dy[i];
  for (int variant = 0; variant < 6; ++variant) {
    const Write write = variant & 1 ? Write::add : Write::assign;
    const bool has_bias = variant >= 2;
    const Write bias_write = variant >= 4 ? Write::add : Write::assign;
    Buffer dw(DType::f32, c.w, before), dbias(DType::f32, {c.w[0]}, bias_before);
    const Conv2dBackwardWeight args{.x = xb.in(),
                                    .dy = dyb.in(),
                                    .dw = dw.view(),
                                    .dbias = has_bias ? dbias.view() : View{},
                                    .geometry = c.g,
                                    .write = write,
                                    .dbias_write = bias_write};
    run(conv2d_backward_weight, args);
    std::vector<double> want = oracle.dw, want_bias = has_bias ? bias_sum : bias_before;
    for (std::size_t i = 0; write == Write::add && i < want.size(); ++i) want[i] += before[i];
    for (std::size_t i = 0; has_bias && bias_write == Write::add && i < want_bias.size(); ++i)
      want_bias[i] += bias_before[i];
    expect_within(
        dw, want,
        [&](std::size_t i) { return sum_tolerance(DType::f32, want[i], oracle.dw_norm[i] + 1, length); },
        c.name() + " dw, variant " + std::to_string(variant));
    expect_within(
        dbias, want_bias,
        [&](std::size_t i) { return sum_tolerance(DType::f32, want_bias[i], std::sqrt(length) + 1, length); },
        c.name() + " dbias");
    Buffer again(DType::f32, c.w, before), bias_again(DType::f32, {c.w[0]}, bias_before);
    Conv2dBackwardWeight repeat = args;
    repeat.dw = again.view();
    if (has_bias) repeat.dbias = bias_again.view();
    run(conv2d_backward_weight, repeat);
    EXPECT_TRUE(dw.same_bits(again) && dbias.same_bits(bias_again)) << c.name() << ": two runs differ";
  }
}

// The kernels of fp64, written on their own, agree with the oracle to double's precision.
TEST_P(ConvTest, PlainConvolutionInDouble) {
  if (dtype != DType::f32) GTEST_SKIP() << "once is enough";
  const Buffer xb(DType::f64, c.x, x), wb(DType::f64, c.w, w), dyb(DType::f64, c.y(), dy);
  Buffer y(DType::f64, c.y()), dx(DType::f64, c.x), dw(DType::f64, c.w);
  plain::conv2d_forward<double>(
      {.x = xb.in(), .w = wb.in(), .bias = {}, .residual = {}, .y = y.view(), .geometry = c.g});
  plain::conv2d_backward_data<double>({.dy = dyb.in(), .w = wb.in(), .dx = dx.view(), .geometry = c.g});
  plain::conv2d_backward_weight<double>(
      {.x = xb.in(), .dy = dyb.in(), .dw = dw.view(), .dbias = {}, .geometry = c.g});
  const auto all = [](std::size_t) { return 1e-12; };  // sums of at most 10^4 terms below 1
  expect_within(y, oracle.y, all, c.name());
  expect_within(dx, oracle.dx, all, c.name());
  expect_within(dw, oracle.dw, all, c.name());
}

INSTANTIATE_TEST_SUITE_P(Cases, ConvTest,
                         ::testing::Combine(::testing::Range(std::size_t{0}, cases().size()),
                                            ::testing::Values(DType::f32, DType::bf16)),
                         [](const auto& tested) {
                           return "case" + std::to_string(std::get<0>(tested.param)) + "_" +
                                  name_of(std::get<1>(tested.param));
                         });

TEST(ConvStatus, AProblemThatOneDnnRefusesIsAStatusThatNamesIt) {
  // The engine would not let this through: w has 4 input channels, x has 3.
  const Buffer x(DType::f32, {1, 4, 4, 3}), w(DType::f32, {8, 3, 3, 4});
  Buffer y(DType::f32, {1, 4, 4, 8});
  const Status status = conv2d_forward(
      Queue(),
      {.x = x.in(), .w = w.in(), .bias = {}, .residual = {}, .y = y.view(), .geometry = square(1, 1)});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("[conv2d_forward] oneDNN"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("fp32 x[1,4,4,3] w[8,3,3,4]"), std::string::npos) << status.message();
}

TEST(ConvStatus, AnEmptyBatchGivesNoOutputAndAZeroWeightGradient) {
  const Buffer x(DType::f32, {0, 4, 4, 3}), dy(DType::f32, {0, 4, 4, 8});
  Buffer dw(DType::f32, {8, 3, 3, 3});
  run(conv2d_backward_weight,
      {.x = x.in(), .dy = dy.in(), .dw = dw.view(), .dbias = {}, .geometry = square(1, 1)});
  for (const double v : dw.values()) ASSERT_EQ(v, 0.0);
}

}  // namespace
}  // namespace cairn::kernels
