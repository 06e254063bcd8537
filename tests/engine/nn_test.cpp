#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "engine/nn/layers.h"
#include "engine/nn/layout.h"
#include "kernels/philox.h"

namespace cairn {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

double mean_of(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}
double std_of(const std::vector<double>& v) {
  const double m = mean_of(v);
  double sum = 0;
  for (const double x : v) sum += (x - m) * (x - m);
  return std::sqrt(sum / static_cast<double>(v.size()));
}

TEST(Initializer, UniformFillsItsRange) {
  nn::Initializer init(1);
  const std::vector<double> v = init.uniform({100, 1000}, 0.25).to_doubles();
  EXPECT_GE(*std::min_element(v.begin(), v.end()), -0.25);
  EXPECT_LT(*std::max_element(v.begin(), v.end()), 0.25);
  // Five standard errors of 1e5 draws.
  EXPECT_NEAR(mean_of(v), 0, 5 * 0.25 / std::sqrt(3.0) / std::sqrt(1e5));
  EXPECT_NEAR(std_of(v), 0.25 / std::sqrt(3.0), 0.001);
}

TEST(Initializer, NormalHasItsMoments) {
  nn::Initializer init(2);
  const std::vector<double> v = init.normal({100, 1000}, 0.5).to_doubles();
  EXPECT_NEAR(mean_of(v), 0, 5 * 0.5 / std::sqrt(1e5));
  EXPECT_NEAR(std_of(v), 0.5, 5 * 0.5 / std::sqrt(2e5));
  const auto beyond = std::count_if(v.begin(), v.end(), [](double x) { return std::abs(x) > 1.0; });
  EXPECT_NEAR(static_cast<double>(beyond) / 1e5, 0.0455, 0.0033);  // P(|z| > 2), five standard errors
}

TEST(Initializer, FiltersAreDrawnInTheOrderOfTheFile) {
  nn::Initializer init(3);
  init.constant({4}, 1.0);  // takes number 0
  const Tensor filter = init.uniform({2, 3, 3, 5}, 1.0, nn::Layout::filter);
  const std::vector<float> values = filter.to_vector<float>();
  // k = 1, c = 4, r = 2, s = 0 lies at ((1 * 5 + 4) * 3 + 2) * 3 + 0 in [K,C,R,S].
  const std::size_t file = ((1 * 5 + 4) * 3 + 2) * 3;
  const std::size_t engine = ((1 * 3 + 2) * 3 + 0) * 5 + 4;
  const Philox4x32 words = philox(3, philox_stream(kStreamInit, 1), file / 4);
  EXPECT_EQ(values[engine], 2.0f * uniform_float(words.v[file % 4]) - 1.0f);
}

TEST(Layout, ThereAndBack) {
  std::vector<float> values(2 * 3 * 4 * 5);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const Shape engine{2, 3, 4, 5};
  EXPECT_EQ(nn::file_shape(engine, nn::Layout::filter), (Shape{2, 5, 3, 4}));
  const auto file = nn::to_file_order<float>(values, engine, nn::Layout::filter);
  EXPECT_EQ(file[1], values[5]);  // the next s of the same c
  EXPECT_EQ(nn::from_file_order<float>(file, engine, nn::Layout::filter), values);
}

TEST(Conv2d, StartsAsPyTorchDoes) {
  nn::Initializer init(4);
  nn::Conv2d conv(init, {.in_channels = 16, .out_channels = 8, .kernel = 3, .groups = 2});
  const auto tensors = conv.named_parameters();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].tensor.shape(), (Shape{8, 3, 3, 8}));
  const double bound = 1 / std::sqrt(8.0 * 9.0);
  for (const auto& t : tensors)
    for (const double v : t.tensor.to_doubles()) EXPECT_LE(std::abs(v), bound) << t.name;
}

TEST(Conv2d, RefusesGroupsThatDoNotDivide) {
  nn::Initializer init(4);
  EXPECT_THAT([&] { nn::Conv2d(init, {.in_channels = 3, .out_channels = 8, .groups = 2}); },
              ThrowsMessage<ShapeError>(HasSubstr("do not divide into 2 groups")));
  EXPECT_THAT([&] { nn::Conv2d(init, {.in_channels = 3}); },
              ThrowsMessage<ShapeError>(HasSubstr("out_channels is 0")));
}

struct Net : nn::Module {
  Net() {
    nn::Initializer init(5);
    make<nn::Sequential>("body").add<nn::BatchNorm2d>("0", init, 4).add<nn::Dropout>("1", 0.5f);
    make<nn::Linear>("fc", init, nn::LinearOptions{.in_features = 4, .out_features = 2});
  }
  Tensor forward(const Tensor& x) override { return x; }
};

TEST(Module, NamesTensorsAsPyTorchDoes) {
  Net net;
  std::vector<std::string> names;
  for (const auto& t : net.named_tensors()) names.push_back(t.name);
  EXPECT_THAT(names, ElementsAre("body.0.weight", "body.0.bias", "body.0.running_mean", "body.0.running_var",
                                 "fc.weight", "fc.bias"));
  EXPECT_EQ(net.named_parameters().size(), 4u);
  EXPECT_EQ(net.named_buffers().size(), 2u);
}

TEST(Module, ModeReachesEveryChild) {
  Net net;
  net.eval();
  int modules = 0;
  net.apply([&](const std::string&, nn::Module& m) {
    EXPECT_FALSE(m.training());
    ++modules;
  });
  EXPECT_EQ(modules, 5);
}

TEST(BatchNorm2d, EvaluationUsesTheRunningStatistics) {
  nn::Initializer init(6);
  nn::BatchNorm2d bn(init, 1);
  const Tensor x = from_values<float>({1, 2, 2, 1}, std::vector<float>{2, 4, 6, 8});
  bn(x);
  const auto buffers = bn.named_buffers();
  EXPECT_NEAR(buffers[0].tensor.item(), 0.5, 1e-6);                     // 0.9 * 0 + 0.1 * 5
  EXPECT_NEAR(buffers[1].tensor.item(), 0.9 + 0.1 * 20.0 / 3.0, 1e-6);  // unbiased variance 20 / 3
  bn.eval();
  const double expected = (2 - 0.5) / std::sqrt(0.9 + 2.0 / 3.0 + 1e-5);
  EXPECT_NEAR(bn(x).to_doubles()[0], expected, 1e-6);
  EXPECT_NEAR(buffers[0].tensor.item(), 0.5, 1e-6);  // unchanged
}

TEST(Dropout, KeepsItsShareScalesItAndDrawsByStep) {
  nn::Dropout layer(0.25f);
  const Tensor x = full({100, 1000}, 3.0).set_requires_grad();
  EXPECT_THAT([&] { layer(x); }, ThrowsMessage<Error>(HasSubstr("set_random_state")));
  const Tensor step = from_values<std::int64_t>({1}, std::vector<std::int64_t>{7});
  layer.set_random_state({.seed = 9, .step = step});
  const Tensor y = layer(x);
  const std::vector<float> kept = y.to_vector<float>();
  for (const float v : kept) EXPECT_TRUE(v == 0.0f || v == 4.0f) << v;
  const auto zeros_seen = static_cast<double>(std::count(kept.begin(), kept.end(), 0.0f));
  EXPECT_NEAR(zeros_seen / 1e5, 0.25, 5 * std::sqrt(0.25 * 0.75 / 1e5));
  // Backward passes through the same elements.
  sum(y).backward();
  const std::vector<float> gradient = x.grad().to_vector<float>();
  for (std::size_t i = 0; i < kept.size(); ++i) ASSERT_EQ(gradient[i], kept[i] / 3.0f);
  EXPECT_EQ(layer(x).to_vector<float>(), kept);
  step.copy_from<std::int64_t>(std::vector<std::int64_t>{8});
  EXPECT_NE(layer(x).to_vector<float>(), kept);
  layer.eval();
  EXPECT_THAT(layer(x).to_vector<float>(), Each(3.0f));
}

TEST(Dropout, APartOfTheBatchDrawsItsPartOfTheMask) {
  nn::Dropout layer(0.5f);
  layer.set_random_state({.seed = 9, .step = {}});
  const std::vector<float> whole = layer(full({4, 10}, 1.0)).to_vector<float>();
  layer.set_random_state({.seed = 9, .step = {}, .first_image = 1});
  const std::vector<float> part = layer(full({3, 10}, 1.0)).to_vector<float>();
  EXPECT_EQ(std::vector<float>(whole.begin() + 10, whole.end()), part);
}

TEST(Dropout, LayersDrawFromDifferentStreams) {
  nn::Sequential net;
  net.add<nn::Dropout>("0", 0.5f).add<nn::Dropout>("1", 0.5f);
  net.set_random_state({.seed = 1, .step = {}});
  const std::vector<float> v = net(full({10000}, 1.0).alias({100, 100})).to_vector<float>();
  // Two equal masks would leave half of the elements; two independent ones a quarter.
  const auto left =
      static_cast<double>(v.size() - static_cast<std::size_t>(std::count(v.begin(), v.end(), 0.0f)));
  EXPECT_NEAR(left / 1e4, 0.25, 5 * std::sqrt(0.25 * 0.75 / 1e4));
}

TEST(ToFp32, HeadsComputeInFp32) {
  const Tensor x = full({2, 3}, 1.5).to(DType::bf16);
  EXPECT_EQ(nn::ToFp32()(x).dtype(), DType::f32);
}

}  // namespace
}  // namespace cairn
