#include "engine/gradcheck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

Tensor leaf(const Shape& shape, std::vector<double> values) {
  Tensor t = from_values<double>(shape, values);
  return t.set_requires_grad();
}

TEST(Gradcheck, AcceptsRightGradients) {
  const std::vector<Tensor> in{leaf({2, 3}, {0.5, -0.25, 1, 2, -1.5, 0.75}), leaf({3}, {1, 2, -1})};
  const auto result = gradcheck([](std::span<const Tensor> t) { return sigmoid(mul(t[0], t[1])); }, in);
  EXPECT_TRUE(result.ok()) << result.message();
  EXPECT_EQ(result.checked, 9);
  EXPECT_LT(result.worst, 1e-8);
}

/// x^2 whose backward forgets the factor 2.
Tensor wrong_square(const Tensor& x) {
  Tensor y = empty_like(x);
  call(kernels::binary_forward, x.queue(), {kernels::BinaryOp::mul, x.view(), x.view(), y.out()});
  return record("wrong_square", y, {x}, [x = Saved(x)](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::binary_forward, x.tensor().queue(),
           {kernels::BinaryOp::mul, g.output(), x.view(), dx->view, 1.0f, dx->write});
  });
}

TEST(Gradcheck, NamesTheWrongElementAndBothValues) {
  const std::vector<Tensor> in{leaf({2}, {0.0, 3.0})};
  const auto result = gradcheck([](std::span<const Tensor> t) { return wrong_square(t[0]); }, in);
  ASSERT_EQ(result.failures.size(), 1u) << "at 0 both gradients are 0";
  EXPECT_EQ(result.failures[0].element, 1);
  EXPECT_NEAR(result.failures[0].numeric, 2 * result.failures[0].analytic, 1e-6);
  EXPECT_FALSE(result.failures[0].kink);
  EXPECT_THAT(result.message(), HasSubstr("input 0 element 1: analytic"));
}

TEST(Gradcheck, TellsAKinkFromAMistake) {
  const std::vector<Tensor> in{leaf({3}, {-1.0, 0.0, 1.0})};
  const auto result = gradcheck([](std::span<const Tensor> t) { return relu(t[0]); }, in);
  ASSERT_EQ(result.failures.size(), 1u);
  EXPECT_EQ(result.failures[0].element, 1);
  EXPECT_TRUE(result.failures[0].kink);
}

TEST(Gradcheck, ChecksAStochasticOpUnderAFixedMask) {
  std::vector<double> values(64);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.1 * static_cast<double>(i + 1);
  const std::vector<Tensor> in{leaf({64}, values)};
  const auto fixed = gradcheck(
      [](std::span<const Tensor> t) { return dropout(t[0], 0.5f, {.seed = 3, .stream = 1, .step = {}}); },
      in);
  EXPECT_TRUE(fixed.ok()) << fixed.message();
  std::uint64_t call_number = 0;
  EXPECT_THAT(
      [&] {
        (void)gradcheck(
            [&](std::span<const Tensor> t) {
              return dropout(t[0], 0.5f, {.seed = ++call_number, .stream = 1, .step = {}});
            },
            in);
      },
      ThrowsMessage<Error>(HasSubstr("random key")));
}

TEST(Gradcheck, WantsDoubles) {
  const std::vector<Tensor> in{zeros({2})};
  EXPECT_THAT([&] { (void)gradcheck([](std::span<const Tensor> t) { return relu(t[0]); }, in); },
              ThrowsMessage<DTypeError>(HasSubstr("must be fp64")));
}

}  // namespace
}  // namespace cairn
