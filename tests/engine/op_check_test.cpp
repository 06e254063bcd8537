// check_op finds the mistakes it is there for, and leaves right ops alone.
#include "engine/op_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/autograd.h"
#include "engine/elementwise.h"
#include "engine/nn/layers.h"
#include "engine/ops.h"

namespace cairn {

// y = x^3, and its mistakes. Outside the anonymous namespace: the slots are one per functor type.
struct CubeForTest {
  static constexpr const char* kName = "cube_for_test";
  double factor = 3;        // of the gradient
  double lost_in_fp32 = 0;  // an error that fp64 does not have
  template <class C>
  C forward(C x) const {
    return x * x * x + (sizeof(C) == 4 ? static_cast<C>(lost_in_fp32) : C(0));
  }
  template <class C>
  C backward(C x, C dy) const {
    return dy * static_cast<C>(factor) * x * x;
  }
};
CAIRN_ELEMENTWISE(CubeForTest);

namespace {

using testing::HasSubstr;

OpCheckResult check_cube(const CubeForTest& cube, const Shape& shape = {3, 5}) {
  const std::vector<OpInput> inputs{op_input(shape)};
  return check_op([&](std::span<const Tensor> in) { return elementwise(cube, in[0]); }, inputs,
                  {.roundings = 2, .reference = [](std::span<const Tensor> in) {
                     std::vector<double> y = in[0].to_vector<double>();
                     for (double& v : y) v = v * v * v;
                     return y;
                   }});
}

TEST(OpCheck, AcceptsARightOpInEveryDType) {
  for (const Shape& shape : {Shape{3, 5}, Shape{1}, Shape{0}, Shape{2, 129, 67}}) {
    if (shape.numel() > 1000) continue;
    const OpCheckResult r = check_cube({}, shape);
    EXPECT_TRUE(r.ok) << r.text;
    for (const char* line : {"ok    reference", "ok    gradients", "ok    cpu fp32", "ok    cpu bf16"})
      EXPECT_THAT(r.text, HasSubstr(line));
  }
}

TEST(OpCheck, NamesAWrongGradient) {
  const OpCheckResult r = check_cube({.factor = 2});
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(r.text, HasSubstr("input 0 element 0: analytic"));
  EXPECT_THAT(r.text, HasSubstr("at [0,0]"));
}

TEST(OpCheck, NamesAWrongKernelOfOneDType) {
  const OpCheckResult r = check_cube({.lost_in_fp32 = 1e-4});
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(r.text, HasSubstr("WRONG cpu fp32: output element"));
  EXPECT_THAT(r.text, HasSubstr("ok    gradients, cpu fp64"));
}

TEST(OpCheck, WantsTheReferenceMet) {
  const std::vector<OpInput> inputs{op_input({4})};
  const OpCheckResult r =
      check_op([](std::span<const Tensor> in) { return relu(in[0]); }, inputs,
               {.reference = [](std::span<const Tensor> in) { return in[0].to_doubles(); }});
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(r.text, HasSubstr("against the reference"));
}

TEST(OpCheck, TheResultsOfNoOpAreTakenForNaN) {
  const std::vector<OpInput> inputs{op_input({4}, -2, -1)};
  const OpCheckResult r = check_op([](std::span<const Tensor> in) { return log(in[0]); }, inputs);
  EXPECT_FALSE(r.ok) << "the logarithm of a negative number has no gradient:\n" << r.text;
}

TEST(OpCheck, InputsAreSpacedAndNeverZero) {
  for (const std::int64_t n : {1, 2, 7, 8, 1000}) {
    const std::vector<double> v = spaced_values(n, -1, 1);
    EXPECT_EQ(std::set<double>(v.begin(), v.end()).size(), static_cast<std::size_t>(n));
    for (const double x : v) {
      EXPECT_GE(std::abs(x), 0.25 / static_cast<double>(n));
      EXPECT_LT(std::abs(x), 1);
    }
  }
  EXPECT_NE(spaced_values(50, -1, 1, 1), spaced_values(50, -1, 1, 2));
}

TEST(GradcheckModule, ChecksInputAndParametersAndNamesThem) {
  nn::Initializer init(3);
  nn::Conv2d conv(init, {.in_channels = 2, .out_channels = 3, .padding = 1});
  const GradcheckResult r = gradcheck(conv, op_input({1, 3, 3, 2}).value);
  EXPECT_TRUE(r.ok()) << r.message();
  EXPECT_EQ(r.checked, 18 + 54 + 3);

  // A parameter that is used, but whose gradient is wrong.
  class Wrong : public nn::Module {
   public:
    explicit Wrong(nn::Initializer& init) : gain_(register_parameter("gain", init.constant({1}, 2.0))) {}
    Tensor forward(const Tensor& x) override { return mul(x, gain_.detach()); }

   private:
    Tensor& gain_;
  } wrong(init);
  const GradcheckResult found = gradcheck(wrong, op_input({2}, 1, 2).value);
  ASSERT_EQ(found.failures.size(), 1u) << found.message();
  EXPECT_EQ(found.failures[0].name, "gain");
  EXPECT_THAT(found.message(), HasSubstr("parameter gain element 0: analytic 0, numeric"));
}

TEST(GradcheckModule, HoldsADropoutLayersMask) {
  nn::Sequential net;
  nn::Initializer init(1);
  net.add<nn::Linear>("fc", init, nn::LinearOptions{.in_features = 3, .out_features = 8})
      .add<nn::Dropout>("drop", 0.5f);
  net.set_random_state({.seed = 4, .step = {}});
  const GradcheckResult r = gradcheck(net, op_input({4, 3}).value);
  EXPECT_TRUE(r.ok()) << r.message();
}

TEST(GradcheckModule, SaysWhereDoubleEnds) {
  nn::Sequential net;
  net.add<nn::ToFp32>("fp32");
  EXPECT_THAT([&] { (void)gradcheck(net, op_input({4}).value); },
              testing::ThrowsMessage<DTypeError>(HasSubstr("the output is fp32, expected fp64")));
}

}  // namespace
}  // namespace cairn
