#include "engine/autograd.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/ops.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

Tensor vec(std::vector<float> v, bool grad = true) {
  Tensor t = from_values<float>({static_cast<std::int64_t>(v.size())}, v);
  return t.set_requires_grad(grad);
}

TEST(Autograd, ChainRule) {
  const Tensor x = vec({1, 2, 3});
  sum(mul(x, x)).backward();
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(2, 4, 6));
}

TEST(Autograd, GradientsAddUntilZeroed) {
  Tensor x = vec({1, -1});
  sum(affine(x, 3.0f)).backward();
  sum(affine(x, 3.0f)).backward();
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(6, 6));
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
  sum(affine(x, 5.0f)).backward();
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(5, 5));
}

TEST(Autograd, BoundBufferReceivesTheGradient) {
  const Tensor flat = zeros({5});
  Tensor x = vec({1, 2, 3});
  x.bind_grad(flat.alias({3}, 1));
  sum(mul(x, x)).backward();
  EXPECT_THAT(flat.to_vector<float>(), ElementsAre(0, 2, 4, 6, 0));
}

TEST(Autograd, DiamondRunsEachOpOnce) {
  const Tensor x = vec({2});
  const Tensor a = mul(x, x);          // 4, da/dx = 4
  const Tensor y = add(a, mul(a, a));  // 20, dy/da = 1 + 2a = 9
  y.backward();
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(36));
}

TEST(Autograd, HandedOnGradientIsNotShared) {
  // add() hands its gradient's memory to one input; the other gets a copy, and adding to one leaves the other
  // alone.
  const Tensor x = vec({1, 2});
  const Tensor z = vec({3, 4});
  const Tensor a = affine(x, 2.0f);
  const Tensor b = affine(z, 2.0f);
  const Tensor y = add(add(a, b), mul(a, b));
  sum(y).backward();
  EXPECT_THAT(x.grad().to_vector<float>(), ElementsAre(2 * (1 + 6), 2 * (1 + 8)));
  EXPECT_THAT(z.grad().to_vector<float>(), ElementsAre(2 * (1 + 2), 2 * (1 + 4)));
}

TEST(Autograd, NothingIsRecordedWhereNoGradientIsWanted) {
  const Tensor x = vec({1, 2});
  {
    const NoGrad no_grad;
    EXPECT_FALSE(mul(x, x).requires_grad());
  }
  EXPECT_TRUE(mul(x, x).requires_grad());
  EXPECT_FALSE(mul(x.detach(), x.detach()).requires_grad());
}

TEST(Autograd, OverwrittenTensorIsNoticed) {
  const Tensor x = vec({1, 2});
  const Tensor y = mul(x, x);
  x.copy_from<float>(std::vector<float>{5, 6});
  EXPECT_THAT([&] { sum(y).backward(); }, ThrowsMessage<Error>(HasSubstr("changed in place")));
}

TEST(Autograd, SecondBackwardSaysWhatToDo) {
  const Tensor x = vec({1});
  const Tensor y = mul(x, x);
  y.backward();
  EXPECT_THAT([&] { y.backward(); }, ThrowsMessage<Error>(HasSubstr("run the forward pass again")));
}

TEST(Autograd, MisuseIsNamed) {
  const Tensor x = vec({1, 2});
  EXPECT_THAT([&] { mul(x, x).backward(); }, ThrowsMessage<ShapeError>(HasSubstr("only a scalar")));
  EXPECT_THAT([&] { x.backward(); }, ThrowsMessage<Error>(HasSubstr("not the result of a recorded op")));
  EXPECT_THAT([&] { mul(x, x).set_requires_grad(); }, ThrowsMessage<Error>(HasSubstr("detach()")));
}

TEST(Autograd, LongChainIsFreedWithoutRecursion) {
  Tensor y = vec({1});
  for (int i = 0; i < 50000; ++i) y = affine(y, 1.0f);
  y = Tensor();
  SUCCEED() << "the destructor did not run out of stack";
}

TEST(Autograd, ActivationsAreFreedWhileBackwardRuns) {
  const Device cpu;
  const Tensor x = from_values<float>({1 << 20}, std::vector<float>(1 << 20, 0.5f));
  Tensor w = x.alias(x.shape());
  w.set_requires_grad();
  Tensor y = w;
  for (int i = 0; i < 8; ++i) y = sigmoid(y);
  const Tensor loss = sum(y);
  y = Tensor();
  const auto before = memory_stats(cpu).in_use;
  loss.backward();
  EXPECT_LT(memory_stats(cpu).in_use, before) << "eight saved outputs should have been given back";
}

TEST(Ops, ErrorsNameOpArgumentAndValue) {
  EXPECT_THAT(
      [] {
        conv2d(zeros({1, 4, 4, 4}), zeros({2, 3, 3, 3}));
      },
      ThrowsMessage<ShapeError>("[conv2d] weight has 3 input channels, input has 4 (groups = 1)"));
  EXPECT_THAT(
      [] {
        linear(zeros({2, 3}), zeros({4, 5}));
      },
      ThrowsMessage<ShapeError>(HasSubstr("[linear] weight has 5 input features")));
  EXPECT_THAT(
      [] {
        add(zeros({2, 3}), zeros({4}));
      },
      ThrowsMessage<ShapeError>("[add] shapes [2,3] and [4] cannot be broadcast"));
  EXPECT_THAT([] { relu(zeros({2}, DType::f16)); },
              ThrowsMessage<DTypeError>(HasSubstr("no fp16 kernel on device 'cpu'")));
  EXPECT_THAT(
      [] {
        batch_norm(zeros({1, 1, 1, 3}), {full({3}, 1), zeros({3}), {}, {}});
      },
      ThrowsMessage<ShapeError>(HasSubstr("more than 1 value per channel")));
  EXPECT_THAT([] { dropout(zeros({2}), 1.0f, {}); }, ThrowsMessage<Error>(HasSubstr("0 <= p < 1")));
}

}  // namespace
}  // namespace cairn
