#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/autograd.h"
#include "engine/nn/init.h"
#include "engine/optim/optimizer.h"
#include "models/registry.h"

namespace cairn {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::int64_t parameter_count(const nn::Module& module) {
  std::int64_t n = 0;
  for (const nn::NamedTensor& p : module.named_parameters()) n += p.tensor.numel();
  return n;
}

TEST(Registry, ModelsHaveThePublishedNumberOfParameters) {
  const auto count = [](const char* name, std::int64_t classes) {
    return parameter_count(*models::make_model(name, {.classes = classes}));
  };
  EXPECT_EQ(count("resnet18", 1000), 11'689'512);  // torchvision's documentation
  EXPECT_EQ(count("resnet34", 1000), 21'797'672);
  EXPECT_EQ(count("resnet_classes", 1000), 11'689'512);
  // 3 convolutions, FC 100352-512, FC 512-7, with their biases.
  EXPECT_EQ(count("model_cnn", 7),
            (27 * 32 + 32) + (288 * 64 + 64) + (576 * 128 + 128) + (100352 * 512 + 512) + (512 * 7 + 7));
}

TEST(Registry, HeadsAreWhereTheTableSays) {
  for (const models::ModelInfo& info : models::all_models()) {
    const auto model = models::make_model(info.name, {.classes = 5, .image_size = 16});
    const nn::NamedTensor last = model->named_parameters().back();
    EXPECT_EQ(last.name, std::string(info.head) + ".bias");
    EXPECT_EQ(last.tensor.shape(), Shape{5});
  }
}

TEST(Registry, RefusesWhatMakesNoSense) {
  EXPECT_THAT([] { models::make_model("resnet50", {.classes = 2}); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("resnet50"), HasSubstr("resnet18, resnet34"))));
  EXPECT_THAT([] { models::make_model("resnet18", {.classes = 0}); },
              ThrowsMessage<InputError>(HasSubstr("0 classes")));
  EXPECT_THAT([] { models::make_model("model_cnn", {.classes = 2, .image_size = 7}); },
              ThrowsMessage<InputError>(HasSubstr("at least 8")));
  EXPECT_THAT([] { models::make_model("model_cnn", {.classes = 2, .dropout = 1.0f}); },
              ThrowsMessage<InputError>(HasSubstr("dropout")));
}

TEST(Registry, LogitsAreFp32WhateverTheComputeDtype) {
  for (const char* name : {"resnet18", "model_cnn"}) {
    const auto model = models::make_model(name, {.classes = 3, .image_size = 32});
    model->eval();
    NoGrad off;
    const Tensor images = full({2, 32, 32, 3}, 0.25);
    const Tensor exact = (*model)(images);
    const Tensor rounded = (*model)(images.to(DType::bf16));
    EXPECT_EQ(rounded.dtype(), DType::f32);
    const std::vector<double> a = exact.to_doubles(), b = rounded.to_doubles();
    // bf16 keeps 8 bits; 18 layers of it stay within a few per cent of the logits' scale.
    double scale = 0;
    for (const double v : a) scale = std::max(scale, std::abs(v));
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 0.05 * scale) << name;
  }
}

TEST(ResNetClasses, TrainsFromScratchWithAdam) {
  // With biases around 0 the ReLU on the logits dies under Adam at 1e-3 and the loss stays at ln(classes).
  const auto model = models::make_model("resnet_classes", {.classes = 7, .image_size = 32, .seed = 3});
  optim::FlatParameters parameters(*model);
  const auto optimizer = optim::make_optimizer(parameters, {});
  nn::Initializer noise(11);
  const Tensor images = noise.uniform({14, 32, 32, 3}, 1.0);
  std::vector<std::int32_t> classes(14);
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = static_cast<std::int32_t>(i % 7);
  const Tensor labels = from_values<std::int32_t>({14}, classes);
  double loss_now = 0;
  for (int step = 0; step < 25; ++step) {
    optimizer->zero_grad();
    const Tensor loss = softmax_cross_entropy((*model)(images), labels);
    loss.backward();
    optimizer->step(1e-3f);
    loss_now = loss.item();
  }
  EXPECT_LT(loss_now, 0.5 * std::log(7.0));
}

}  // namespace
}  // namespace cairn
