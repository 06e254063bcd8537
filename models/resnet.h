#pragma once
#include <array>
#include <memory>
#include <vector>

#include "engine/nn/layers.h"

namespace cairn::models {

/// Two 3x3 convolutions and a shortcut (He et al. 2016, fig. 5 left), torchvision's BasicBlock.
class BasicBlock : public nn::Module {
 public:
  BasicBlock(nn::Initializer& init, std::int64_t in_channels, std::int64_t channels, int stride);
  Tensor forward(const Tensor& x) override;

 private:
  nn::Conv2d& conv1_;
  nn::BatchNorm2d& bn1_;
  nn::Conv2d& conv2_;
  nn::BatchNorm2d& bn2_;
  nn::Conv2d* downsample_conv_ = nullptr;
  nn::BatchNorm2d* downsample_bn_ = nullptr;
};

struct ResNetOptions {
  std::array<int, 4> blocks{2, 2, 2, 2};  // of each stage: 18 layers; {3, 4, 6, 3}: 34
  std::int64_t classes = 1000;
  bool relu_on_logits = false;  // the original classifier's last layer
};

/// Residual network of basic blocks (He et al. 2016), torchvision's architecture, key names and
/// initialisation. [N,H,W,3] in the compute dtype -> logits [N,classes] fp32.
class ResNet : public nn::Module {
 public:
  ResNet(nn::Initializer& init, const ResNetOptions& options);
  Tensor forward(const Tensor& x) override;

 private:
  nn::Conv2d& conv1_;
  nn::BatchNorm2d& bn1_;
  std::vector<nn::Sequential*> layers_;
  nn::Linear* fc_ = nullptr;
  bool relu_on_logits_;
};

}  // namespace cairn::models
