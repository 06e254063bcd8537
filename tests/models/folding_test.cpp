#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/autograd.h"
#include "engine/nn/layers.h"
#include "models/registry.h"

namespace cairn {
namespace {

std::vector<float> random_values(std::size_t n, unsigned seed, float low, float high) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> value(low, high);
  std::vector<float> v(n);
  for (float& x : v) x = value(random);
  return v;
}

// Statistics and parameters as training leaves them: none of them 0 or 1.
void disturb(nn::Module& model, unsigned seed) {
  for (nn::NamedTensor& t : model.named_tensors()) {
    const bool positive =
        t.name.ends_with("running_var") || (t.tensor.rank() == 1 && t.name.ends_with("weight"));
    if (t.tensor.rank() == 1)
      t.tensor.copy_from<float>(random_values(static_cast<std::size_t>(t.tensor.numel()), seed++,
                                              positive ? 0.5f : -0.3f, positive ? 1.5f : 0.3f));
  }
}

std::vector<float> logits(nn::Module& model, const Tensor& x) {
  const NoGrad no_grad;
  model.eval();
  return model(x).to_vector<float>();
}

// Largest difference over the largest value.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return most / largest;
}

class Folding : public testing::TestWithParam<DType> {
 protected:
  void TearDown() override { nn::ConvBatchNorm::set_folding(true); }
  std::vector<float> unfolded(nn::Module& model, const Tensor& x) {
    nn::ConvBatchNorm::set_folding(false);
    std::vector<float> v = logits(model, x);
    nn::ConvBatchNorm::set_folding(true);
    return v;
  }
};

TEST_P(Folding, GivesTheLogitsOfSeparateBatchNorms) {
  const auto model = models::make_model("resnet18", {.classes = 5, .image_size = 32});
  disturb(*model, 1);
  const Tensor x =
      cast(from_values<float>({2, 32, 32, 3}, random_values(2 * 32 * 32 * 3, 9, -1, 1)), GetParam());
  const std::vector<float> separate = unfolded(*model, x), folded = logits(*model, x);
  // 20 layers, each rounding its weights and its result once more or once less.
  const double rounding = GetParam() == DType::bf16 ? 0x1p-8 : 0x1p-24;
  EXPECT_LT(distance(folded, separate), 40 * rounding);
  EXPECT_NE(folded, separate) << "nothing was folded";
}

TEST_P(Folding, FollowsTheParametersAndStatistics) {
  const auto model = models::make_model("resnet18", {.classes = 5, .image_size = 32});
  const Tensor x =
      cast(from_values<float>({4, 32, 32, 3}, random_values(4 * 32 * 32 * 3, 9, -1, 1)), GetParam());
  const std::vector<float> before = logits(*model, x);
  disturb(*model, 2);  // in evaluation mode: the versions tell
  const std::vector<float> after = logits(*model, x);
  EXPECT_GT(distance(after, before), 0.1);
  model->train();
  static_cast<void>((*model)(x));  // moves the running statistics
  const double rounding = GetParam() == DType::bf16 ? 0x1p-8 : 0x1p-24;
  EXPECT_LT(distance(logits(*model, x), unfolded(*model, x)), 40 * rounding);
  EXPECT_GT(distance(logits(*model, x), after), 1e-3);
}

TEST_P(Folding, LeavesGradientsAlone) {
  const auto model = models::make_model("resnet18", {.classes = 5, .image_size = 32});
  model->eval();
  const Tensor x = cast(from_values<float>({1, 32, 32, 3}, random_values(32 * 32 * 3, 9, -1, 1)), GetParam());
  sum((*model)(x)).backward();
  for (const nn::NamedTensor& p : model->named_parameters()) EXPECT_TRUE(p.tensor.grad().defined()) << p.name;
}

// Weights laid out once serve until they, or the input's shape or dtype, change.
TEST_P(Folding, PackedWeightsGiveTheSameBits) {
  for (const char* name : {"resnet18", "model_cnn"}) {
    const auto model = models::make_model(name, {.classes = 5, .image_size = 32, .dropout = {}});
    unsigned seed = 3;
    const auto expect_same = [&](std::int64_t n, DType dtype) {
      const Tensor x =
          cast(from_values<float>({n, 32, 32, 3}, random_values(n * 32 * 32 * 3, 9, -1, 1)), dtype);
      const std::vector<float> packed = logits(*model, x), again = logits(*model, x);
      nn::ConvBatchNorm::set_packing(false);
      std::vector<float> plain = logits(*model, x);
      nn::ConvBatchNorm::set_packing(true);
      EXPECT_EQ(packed, plain) << name << ' ' << n;
      EXPECT_EQ(again, plain) << name << ' ' << n;
      return plain;
    };
    const std::vector<float> before = expect_same(4, GetParam());
    expect_same(3, GetParam());
    expect_same(4, GetParam() == DType::f32 ? DType::bf16 : DType::f32);
    expect_same(4, GetParam());
    for (nn::NamedTensor& t : model->named_parameters())
      t.tensor.copy_from<float>(
          random_values(static_cast<std::size_t>(t.tensor.numel()), seed++, -0.05f, 0.05f));
    EXPECT_NE(expect_same(4, GetParam()), before) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, Folding, testing::Values(DType::f32, DType::bf16),
                         [](const auto& c) { return std::string(name_of(c.param)); });

}  // namespace
}  // namespace cairn
