#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/autograd.h"
#include "engine/nn/layers.h"
#include "engine/optim/optimizer.h"
#include "kernels/philox.h"
#include "models/registry.h"
#include "tests/emu/ops/device.h"

namespace cairn {

inline constexpr std::int64_t kSize = 32, kClasses = 3;
inline constexpr const char* kModels[] = {"model_cnn", "resnet18", "resnet_classes"};

struct TestBatch {
  std::vector<std::uint8_t> pixels;  // [N,S,S,3]
  std::vector<std::int32_t> labels;  // [N]
  std::int64_t images() const { return static_cast<std::int64_t>(labels.size()); }
};

/// Noise over a pattern that tells the class: bright rows, columns or a checkerboard, each at its own place.
inline TestBatch make_batch(std::int64_t images, std::uint64_t number) {
  TestBatch batch;
  batch.pixels.resize(static_cast<std::size_t>(images * kSize * kSize * 3));
  for (std::int64_t n = 0; n < images; ++n) batch.labels.push_back(static_cast<std::int32_t>(n % kClasses));
  for (std::size_t i = 0; i < batch.pixels.size(); ++i) {
    const auto n = static_cast<std::int64_t>(i) / (kSize * kSize * 3);
    const std::int64_t y = static_cast<std::int64_t>(i) / (kSize * 3) % kSize;
    const std::int64_t x = static_cast<std::int64_t>(i) / 3 % kSize;
    const std::int64_t row = (y + n) / 4 % 2, column = (x + 2 * n) / 4 % 2;
    const std::int32_t label = batch.labels[static_cast<std::size_t>(n)];
    const std::int64_t bright = label == 0 ? row : label == 1 ? column : row ^ column;
    const std::uint32_t noise = uniform_below(philox(20, number, i).v[0], 120);
    batch.pixels[i] = static_cast<std::uint8_t>(static_cast<std::uint32_t>(bright) * 120 + noise);
  }
  return batch;
}

/// A little of everything that the models are made of.
inline std::unique_ptr<nn::Module> small_net() {
  nn::Initializer init(20);
  auto net = std::make_unique<nn::Sequential>();
  net->add<nn::Conv2d>("conv", init,
                       nn::Conv2dOptions{.in_channels = 3, .out_channels = 8, .stride = 4, .padding = 1});
  net->add<nn::BatchNorm2d>("bn", init, 8);
  net->add<nn::ReLU>("relu");
  net->add<nn::MaxPool2d>("pool", 2);
  net->add<nn::Dropout>("dropout", 0.25f);
  net->add<nn::Flatten>("flatten");
  net->add<nn::Linear>("fc", init, nn::LinearOptions{.in_features = 128, .out_features = kClasses});
  net->add<nn::ToFp32>("to_fp32");
  return net;
}

/// A model in training on a device, as the program trains it: bytes up, normalised there, one flat buffer of
/// parameters and one of gradients.
class Training {
 public:
  Training(const std::string& name, Device device, DType dtype, const optim::OptimizerOptions& options)
      : Training(models::make_model(
                     name,
                     {.classes = kClasses, .image_size = static_cast<int>(kSize), .seed = 20, .dropout = {}}),
                 device, dtype, options) {}
  Training(std::unique_ptr<nn::Module> module, Device device, DType dtype,
           const optim::OptimizerOptions& options)
      : model(std::move(module)), device_(device), dtype_(dtype) {
    model->to(device);
    step_counter = zeros({1}, DType::i64, device);
    model->set_random_state({.seed = 20, .step = step_counter});
    parameters = std::make_unique<optim::FlatParameters>(*model);
    optimizer = optim::make_optimizer(*parameters, options);
  }

  /// Parameters, buffers, the optimiser's state and its step count, to the bit.
  void begin_from(const Training& other) {
    copy(other.model->named_tensors(), model->named_tensors());
    copy(other.optimizer->state(), optimizer->state());
    optimizer->set_steps(other.optimizer->steps());
  }

  struct Inputs {
    Tensor images, labels;
  };
  Inputs upload(const TestBatch& batch) const {
    return {from_values<std::uint8_t>({batch.images(), kSize, kSize, 3}, batch.pixels, device_),
            from_values<std::int32_t>({batch.images()}, batch.labels, device_)};
  }
  Tensor logits(const TestBatch& batch) { return (*model)(preprocess(upload(batch).images, dtype_, {})); }
  /// What dropout draws its masks from.
  void send_step_number() const {
    const std::int64_t step = optimizer->steps();
    step_counter.copy_from<std::int64_t>(std::span(&step, 1));
  }

  struct Outputs {
    Tensor logits, loss;
  };
  /// Loss and gradients, those multiplied by `scale`; left on the device.
  Outputs backward(const TestBatch& batch, double scale = 1) {
    return backward(batch, full({1}, scale, DType::f32, device_));
  }
  Outputs backward(const TestBatch& batch, const Tensor& scale) {
    send_step_number();
    return backward(upload(batch), scale);
  }
  /// Kernels only.
  Outputs backward(const Inputs& inputs, const Tensor& scale) {
    Outputs out{.logits = (*model)(preprocess(inputs.images, dtype_, {})), .loss = {}};
    out.loss = softmax_cross_entropy(out.logits, inputs.labels, {});
    optimizer->zero_grad();
    out.loss.backward(scale);
    return out;
  }
  Tensor step(const TestBatch& batch, float lr) {
    Tensor loss = backward(batch).loss;
    optimizer->step(lr);
    return loss;
  }

  std::unique_ptr<nn::Module> model;
  Tensor step_counter;
  std::unique_ptr<optim::FlatParameters> parameters;
  std::unique_ptr<optim::Optimizer> optimizer;

 private:
  static void copy(const std::vector<nn::NamedTensor>& from, const std::vector<nn::NamedTensor>& to) {
    ASSERT_EQ(from.size(), to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      ASSERT_EQ(from[i].name, to[i].name);
      if (from[i].tensor.dtype() == DType::i64)
        to[i].tensor.copy_from<std::int64_t>(from[i].tensor.to_vector<std::int64_t>());
      else
        to[i].tensor.copy_from<float>(from[i].tensor.to_vector<float>());
    }
  }
  Device device_;
  DType dtype_;
};

}  // namespace cairn
