// Squeeze-and-excitation (Hu et al. 2018, eq. 2-4) inside ResNet-18: y * sigmoid(W2 relu(W1 mean(y))),
// channel by channel, before the shortcut is added. Composed of public ops: no gradient is written here.
#include "engine/nn/layers.h"
#include "models/plugin.h"

namespace cairn {

/// [N,H,W,channels] -> the same, each channel of each image scaled by what the whole image says of it.
class SqueezeExcitation : public nn::Module {
 public:
  SqueezeExcitation(nn::Initializer& init, std::int64_t channels, std::int64_t reduction = 16)
      : fc1_(make<nn::Linear>(
            "fc1", init,
            nn::LinearOptions{.in_features = channels,
                              .out_features = std::max<std::int64_t>(channels / reduction, 1),
                              .activation = Activation::relu})),
        fc2_(
            make<nn::Linear>("fc2", init,
                             nn::LinearOptions{.in_features = std::max<std::int64_t>(channels / reduction, 1),
                                               .out_features = channels})) {}
  Tensor forward(const Tensor& x) override {
    const Tensor gate = sigmoid(fc2_(fc1_(global_avg_pool(x))));
    return mul(x, reshape(gate, {x.size(0), 1, 1, x.size(3)}));
  }

 private:
  nn::Linear& fc1_;
  nn::Linear& fc2_;
};

std::unique_ptr<nn::Module> make_squeeze_excitation(std::int64_t channels, std::int64_t reduction,
                                                    std::uint64_t seed) {
  nn::Initializer init(seed);
  return std::make_unique<SqueezeExcitation>(init, channels, reduction);
}

namespace {

/// Two 3x3 convolutions, squeeze-and-excitation, and a shortcut (fig. 3 right).
class SeBlock : public nn::Module {
 public:
  SeBlock(nn::Initializer& init, std::int64_t in, std::int64_t out, int stride) {
    const auto convolution = [&](const char* name, std::int64_t from, int kernel, int step) {
      return &make<nn::Conv2d>(name, init,
                               nn::Conv2dOptions{.in_channels = from,
                                                 .out_channels = out,
                                                 .kernel = kernel,
                                                 .stride = step,
                                                 .padding = kernel / 2,
                                                 .bias = false,
                                                 .init = nn::WeightInit::kaiming_normal_fan_out});
    };
    conv1_ = convolution("conv1", in, 3, stride);
    bn1_ = &make<nn::BatchNorm2d>("bn1", init, out);
    conv2_ = convolution("conv2", out, 3, 1);
    bn2_ = &make<nn::BatchNorm2d>("bn2", init, out);
    se_ = &make<SqueezeExcitation>("se", init, out);
    if (stride == 1 && in == out) return;
    shortcut_ = convolution("downsample.0", in, 1, stride);
    shortcut_bn_ = &make<nn::BatchNorm2d>("downsample.1", init, out);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor y = bn2_->forward(conv2_->forward(bn1_->fused(conv1_->forward(x), {}, Activation::relu)));
    return relu(add(se_->forward(y), shortcut_ ? shortcut_bn_->forward(shortcut_->forward(x)) : x));
  }

 private:
  nn::Conv2d *conv1_, *conv2_, *shortcut_ = nullptr;
  nn::BatchNorm2d *bn1_, *bn2_, *shortcut_bn_ = nullptr;
  SqueezeExcitation* se_;
};

std::unique_ptr<nn::Module> make_se_resnet18(const models::ModelOptions& options) {
  nn::Initializer init(options.seed);
  auto model = std::make_unique<nn::Sequential>();
  model->add<nn::Conv2d>("conv1", init,
                         nn::Conv2dOptions{.in_channels = 3,
                                           .out_channels = 64,
                                           .kernel = 7,
                                           .stride = 2,
                                           .padding = 3,
                                           .bias = false,
                                           .init = nn::WeightInit::kaiming_normal_fan_out});
  model->add<nn::BatchNorm2d>("bn1", init, 64).add<nn::ReLU>("relu").add<nn::MaxPool2d>("maxpool", 3, 2, 1);
  std::int64_t in = 64;
  for (int stage = 0; stage < 4; ++stage) {
    const std::int64_t out = std::int64_t{64} << stage;
    const std::string layer = "layer" + std::to_string(stage + 1);
    model->add<SeBlock>(layer + ".0", init, in, out, stage == 0 ? 1 : 2)
        .add<SeBlock>(layer + ".1", init, out, out, 1);
    in = out;
  }
  model->add<nn::GlobalAvgPool>("avgpool").add<nn::ToFp32>("fp32");
  model->add<nn::Linear>("fc", init, nn::LinearOptions{.in_features = in, .out_features = options.classes});
  return model;
}

const models::RegisterModel kModel{{.name = "se_resnet18",
                                    .summary = "ResNet-18 with squeeze-and-excitation",
                                    .head = "fc",
                                    .defaults = models::resnet_defaults(),
                                    .make = &make_se_resnet18}};

}  // namespace
}  // namespace cairn
CAIRN_PLUGIN();
