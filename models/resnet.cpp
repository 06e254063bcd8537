#include "models/resnet.h"

#include <string>

namespace cairn::models {
namespace {

// torchvision's ResNet: convolutions without bias, kaiming_normal(fan_out).
nn::Conv2dOptions conv(std::int64_t in, std::int64_t out, int kernel, int stride) {
  return {.in_channels = in,
          .out_channels = out,
          .kernel = kernel,
          .stride = stride,
          .padding = kernel / 2,
          .bias = false,
          .init = nn::WeightInit::kaiming_normal_fan_out};
}

// Where the ReLU on the logits cuts off every class of every image, no gradient comes back and the loss stays
// at ln(classes) for good: with biases around 0 that happens within an epoch of Adam at 1e-3, whose first
// steps move each logit by about lr * sum(features). Softmax does not see a constant added to all logits, so
// starting them at 1 changes nothing else.
constexpr double kLogitBias = 1.0;

}  // namespace

BasicBlock::BasicBlock(nn::Initializer& init, std::int64_t in_channels, std::int64_t channels, int stride)
    : conv_bn1_{make<nn::Conv2d>("conv1", init, conv(in_channels, channels, 3, stride)),
                make<nn::BatchNorm2d>("bn1", init, channels)},
      conv_bn2_{make<nn::Conv2d>("conv2", init, conv(channels, channels, 3, 1)),
                make<nn::BatchNorm2d>("bn2", init, channels)} {
  if (stride == 1 && in_channels == channels) return;
  auto& shrink = make<nn::Conv2d>("downsample.0", init, conv(in_channels, channels, 1, stride));
  downsample_.emplace(shrink, make<nn::BatchNorm2d>("downsample.1", init, channels));
}

Tensor BasicBlock::forward(const Tensor& x) {
  const Tensor shortcut = downsample_ ? (*downsample_)(x, {}, Activation::none) : x;
  return conv_bn2_(conv_bn1_(x, {}, Activation::relu), shortcut, Activation::relu);
}

ResNet::ResNet(nn::Initializer& init, const ResNetOptions& options)
    : stem_{make<nn::Conv2d>("conv1", init, conv(3, 64, 7, 2)), make<nn::BatchNorm2d>("bn1", init, 64)},
      relu_on_logits_(options.relu_on_logits) {
  std::int64_t in_channels = 64;
  for (std::size_t stage = 0; stage < options.blocks.size(); ++stage) {
    const std::int64_t channels = std::int64_t{64} << stage;
    auto& layer = make<nn::Sequential>("layer" + std::to_string(stage + 1));
    for (int block = 0; block < options.blocks[stage]; ++block) {
      const int stride = stage > 0 && block == 0 ? 2 : 1;
      layer.add<BasicBlock>(std::to_string(block), init, in_channels, channels, stride);
      in_channels = channels;
    }
    layers_.push_back(&layer);
  }
  fc_ = &make<nn::Linear>("fc", init,
                          nn::LinearOptions{.in_features = in_channels, .out_features = options.classes});
  if (relu_on_logits_)
    fc_->bias().copy_from<float>(
        std::vector<float>(static_cast<std::size_t>(options.classes), static_cast<float>(kLogitBias)));
}

Tensor ResNet::features(const Tensor& x) {
  Tensor y = stem_.relu_max_pool(
      x, {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .padding_h = 1, .padding_w = 1});
  for (nn::Sequential* layer : layers_) y = (*layer)(y);
  return y;
}

Tensor ResNet::classify(const Tensor& features) {
  const Tensor logits = (*fc_)(cast(global_avg_pool(features), DType::f32));
  return relu_on_logits_ ? relu(logits) : logits;
}

}  // namespace cairn::models
