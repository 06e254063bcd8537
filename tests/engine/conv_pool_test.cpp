// conv2d_relu_max_pool2d on batches that it goes through in several parts, against the ops one by one.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/ops.h"
#include "kernels/device.h"

namespace cairn {
namespace {

std::vector<float> random_values(std::int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> value(-1, 1);
  std::vector<float> v(static_cast<std::size_t>(n));
  for (float& x : v) x = value(random);
  return v;
}

struct Result {
  std::vector<double> y, dx, dw, dbias;
};

class ConvPool : public testing::TestWithParam<DType> {
 protected:
  static constexpr std::int64_t kImages = 11, kSide = 128, kIn = 3, kOut = 32;
  static constexpr Conv2dGeometry kConv{.padding_h = 1, .padding_w = 1};

  template <class Op>
  static Result run(Op&& op) {
    Tensor x =
        from_values<float>({kImages, kSide, kSide, kIn}, random_values(kImages * kSide * kSide * kIn, 1))
            .to(GetParam());
    Tensor w = from_values<float>({kOut, 3, 3, kIn}, random_values(kOut * 9 * kIn, 2));
    Tensor bias = from_values<float>({kOut}, random_values(kOut, 3));
    for (Tensor* t : {&x, &w, &bias}) t->set_requires_grad();
    const Tensor y = op(x, w, bias);
    const Tensor dy = from_values<float>(y.shape(), random_values(y.numel(), 4)).to(GetParam());
    y.backward(dy);
    return {y.to_doubles(), x.grad().to_doubles(), w.grad().to_doubles(), bias.grad().to_doubles()};
  }
  static Result parted() {
    return run([](const Tensor& x, const Tensor& w, const Tensor& bias) {
      return conv2d_relu_max_pool2d(x, w, bias, kConv, {});
    });
  }
};

TEST_P(ConvPool, PartsGiveWhatTheOpsGiveOneByOne) {
  const std::size_t image = kSide * kSide * kOut * size_of(GetParam());
  const std::size_t part = kernels::device_api(DeviceType::cpu)->part_bytes;
  ASSERT_LT(part / image, static_cast<std::size_t>(kImages)) << "one part: nothing is tested";
  const Result whole = run([](const Tensor& x, const Tensor& w, const Tensor& bias) {
    return max_pool2d(conv2d(x, w, bias, kConv, Activation::relu), {});
  });
  const Result parts = parted();
  EXPECT_EQ(parts.y, whole.y);
  EXPECT_EQ(parts.dx, whole.dx);
  // Sums of N*P*Q products of random signs, in another order: sqrt(n) roundings of the largest partial sum.
  const double n = static_cast<double>(kImages * kSide * kSide);
  const auto expect_near = [&](const std::vector<double>& a, const std::vector<double>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], 8 * std::sqrt(n) * 0x1p-24 * std::sqrt(n)) << i;
  };
  expect_near(parts.dw, whole.dw);
  expect_near(parts.dbias, whole.dbias);
}

TEST_P(ConvPool, GivesTheSameBitsTwice) {
  const Result a = parted(), b = parted();
  EXPECT_EQ(a.y, b.y);
  EXPECT_EQ(a.dw, b.dw);
  EXPECT_EQ(a.dbias, b.dbias);
}

INSTANTIATE_TEST_SUITE_P(Precisions, ConvPool, testing::Values(DType::f32, DType::bf16),
                         [](const auto& c) { return std::string(name_of(c.param)); });

}  // namespace
}  // namespace cairn
