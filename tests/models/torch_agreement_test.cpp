// Agreement with PyTorch from the same weights and inputs, which both sides draw from Philox: the numbers in
// tests/fixtures/torch_*.json come from make_torch_fixtures.py, whose constants stand here again.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd.h"
#include "engine/nn/layout.h"
#include "engine/optim/optimizer.h"
#include "kernels/cpu/winograd.h"
#include "kernels/philox.h"
#include "models/registry.h"
#include "tests/fixture_file.h"

namespace cairn {
namespace {

constexpr std::int64_t kBatch = 8, kSize = 64, kClasses = 7;
constexpr std::uint64_t kSeed = 20;

struct TestBatch {
  Tensor images, labels;
};

TestBatch make_batch(std::uint64_t step) {
  std::vector<float> images(kBatch * kSize * kSize * 3);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Philox4x32 words = philox(kSeed, philox_stream(kStreamAugment, step), i / 4);
    images[i] = 2.0f * uniform_float(words.v[i % 4]) - 1.0f;
  }
  std::vector<std::int32_t> labels(kBatch);
  for (std::size_t i = 0; i < labels.size(); ++i)
    labels[i] = static_cast<std::int32_t>(
        uniform_below(philox(kSeed, philox_stream(kStreamMix, step), i / 4).v[i % 4], kClasses));
  return {from_values<float>({kBatch, kSize, kSize, 3}, images), from_values<std::int32_t>({kBatch}, labels)};
}

/// Sums of the elements, in file order, under 32 patterns of signs: bit j of word i is element i's sign in
/// pattern j. The mean square of the projections of a difference estimates its squared norm.
std::vector<double> project(std::uint64_t ordinal, const std::vector<float>& values) {
  std::vector<double> sums(32, 0.0);
  const std::uint64_t stream = philox_stream(kStreamMix, (1u << 20) + ordinal);
  Philox4x32 words{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % 4 == 0) words = philox(kSeed, stream, i / 4);
    const std::uint32_t word = words.v[i % 4];
    for (std::size_t j = 0; j < 32; ++j)
      sums[j] += (word >> j & 1u) != 0 ? static_cast<double>(values[i]) : -static_cast<double>(values[i]);
  }
  return sums;
}

std::unique_ptr<nn::Module> make(const std::string& name) {
  return models::make_model(name, {.classes = kClasses, .image_size = kSize, .seed = kSeed, .dropout = 0.0f});
}

std::vector<double> follow(const std::string& name, const optim::OptimizerOptions& options, float lr) {
  auto model = make(name);
  optim::FlatParameters parameters(*model);
  const auto optimizer = optim::make_optimizer(parameters, options);
  std::vector<double> losses;
  for (std::uint64_t step = 0; step < 20; ++step) {
    const TestBatch batch = make_batch(step);
    optimizer->zero_grad();
    const Tensor loss = softmax_cross_entropy((*model)(batch.images), batch.labels);
    loss.backward();
    optimizer->step(lr);
    losses.push_back(loss.item());
  }
  return losses;
}

class TorchAgreement : public testing::TestWithParam<const char*> {
 protected:
  std::string name() const { return GetParam(); }
  bool has_batch_norm() const { return name() != "model_cnn"; }
  nlohmann::json fixture() const { return test::fixture_json("torch_" + name() + ".json"); }
};

/// How many of the peer's own distances from double a gradient tensor may lie off. Two, but for ModelCNN with
/// Winograd's convolutions: without batch norm, which amplifies everybody's rounding, the peer's distance is
/// that of one direct sum, and F(4x4, 3x3) errs two to three times as much (winograd_test.cpp bounds it).
void check_gradients(const std::string& name, const nlohmann::json& want, double allowed) {
  const std::size_t batches = want["loss"].size();
  std::vector<double> squared(want["gradients"].size(), 0.0);
  for (std::size_t step = 0; step < batches; ++step) {
    auto model = make(name);
    const TestBatch batch = make_batch(step);
    const Tensor loss = softmax_cross_entropy((*model)(batch.images), batch.labels);
    EXPECT_NEAR(loss.item(), want["loss"][step].get<double>(), 1e-5);
    loss.backward();
    const std::vector<nn::NamedTensor> parameters = model->named_parameters();
    ASSERT_EQ(parameters.size(), squared.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const nn::NamedTensor& p = parameters[i];
      const auto& expected = want["gradients"][i];
      ASSERT_EQ(p.name, expected["name"].get<std::string>());
      ASSERT_TRUE(p.tensor.grad().defined()) << p.name;
      const std::vector<double> got = project(
          i, nn::to_file_order<float>(p.tensor.grad().to_vector<float>(), p.tensor.shape(), p.layout));
      for (std::size_t j = 0; j < got.size(); ++j) {
        const double difference = got[j] - expected["projections"][step][j].get<double>();
        squared[i] += difference * difference / static_cast<double>(got.size() * batches);
      }
    }
  }
  for (std::size_t i = 0; i < squared.size(); ++i) {
    const auto& expected = want["gradients"][i];
    const double peer =
        std::max(expected["distance"][0].get<double>(), expected["distance"][1].get<double>());
    // 32 patterns on several batches know a norm to 10 %.
    // A sum that PyTorch happens to round luckily (a bias of 7 values) must not set a bound under one fp32
    // rounding of the tensor.
    const double floor = 0.6e-7 * expected["norm"].get<double>();
    EXPECT_LE(std::sqrt(squared[i]), allowed * std::max(peer, floor))
        << expected["name"] << ": PyTorch's own distance is " << peer << ", the gradient's norm "
        << expected["norm"];
  }
}

TEST_P(TorchAgreement, LossAndEveryGradient) {
  check_gradients(name(), fixture(), has_batch_norm() ? 2.0 : 4.0);
}

TEST_P(TorchAgreement, LossAndEveryGradientWithoutWinograd) {
  kernels::winograd::set_enabled(false);
  check_gradients(name(), fixture(), 2.0);
  kernels::winograd::set_enabled(true);
}

TEST_P(TorchAgreement, FollowsSgd) {
  const nlohmann::json want = fixture()["sgd"];
  const std::vector<double> got = follow(name(),
                                         {.kind = optim::OptimizerKind::sgd,
                                          .weight_decay = want["weight_decay"].get<float>(),
                                          .momentum = 0.9f},
                                         want["lr"].get<float>());
  for (std::size_t step = 0; step < got.size(); ++step)
    EXPECT_NEAR(got[step], want["losses"][step].get<double>(), has_batch_norm() ? 1e-3 : 1e-4)
        << "step " << step;
}

INSTANTIATE_TEST_SUITE_P(Models, TorchAgreement, testing::Values("model_cnn", "resnet18", "resnet_classes"));

TEST(TorchAgreementAdam, ModelCnnFollows) {
  const nlohmann::json want = test::fixture_json("torch_model_cnn.json")["adam"];
  const std::vector<double> got =
      follow("model_cnn", {.kind = optim::OptimizerKind::adam}, want["lr"].get<float>());
  for (std::size_t step = 0; step < got.size(); ++step)
    EXPECT_NEAR(got[step], want["losses"][step].get<double>(), 1e-4) << "step " << step;
}

TEST(TorchAgreementRunning, StatisticsAfterOneStep) {
  const auto want = test::fixture_json("torch_resnet18.json")["running"];
  auto model = make("resnet18");
  {
    NoGrad off;
    (*model)(make_batch(0).images);
  }
  const std::vector<nn::NamedTensor> buffers = model->named_buffers();
  ASSERT_EQ(buffers.size(), want.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    ASSERT_EQ(buffers[i].name, want[i]["name"].get<std::string>());
    const std::vector<float> got = buffers[i].tensor.to_vector<float>();
    const std::size_t stride = std::max<std::size_t>(1, got.size() / 8);
    for (std::size_t j = 0; j < want[i]["values"].size(); ++j) {
      const double expected = want[i]["values"][j].get<double>();
      EXPECT_NEAR(static_cast<double>(got[j * stride]), expected, 1e-5 * std::max(1.0, std::abs(expected)))
          << buffers[i].name;
    }
  }
}

}  // namespace
}  // namespace cairn
