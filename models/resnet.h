#pragma once
#include <array>
#include <optional>
#include <vector>

#include "engine/nn/layers.h"
#include "models/classifier.h"

namespace cairn::models {

/// Two 3x3 convolutions and a shortcut (He et al. 2016, fig. 5 left), torchvision's BasicBlock.
class BasicBlock : public nn::Module {
 public:
  BasicBlock(nn::Initializer& init, std::int64_t in_channels, std::int64_t channels, int stride);
  Tensor forward(const Tensor& x) override;

 private:
  nn::ConvBatchNorm conv_bn1_, conv_bn2_;
  std::optional<nn::ConvBatchNorm> downsample_;
};

struct ResNetOptions {
  std::array<int, 4> blocks{2, 2, 2, 2};  // of each stage: 18 layers; {3, 4, 6, 3}: 34
  std::int64_t classes = 1000;
  bool relu_on_logits = false;  // the original classifier's last layer
};

/// Residual network of basic blocks (He et al. 2016), torchvision's architecture, key names and
/// initialisation. [N,H,W,3] in the compute dtype -> logits [N,classes] fp32.
class ResNet : public Classifier {
 public:
  ResNet(nn::Initializer& init, const ResNetOptions& options);
  Tensor features(const Tensor& x) override;
  Tensor classify(const Tensor& features) override;

 private:
  nn::ConvBatchNorm stem_;
  std::vector<nn::Sequential*> layers_;
  nn::Linear* fc_ = nullptr;
  bool relu_on_logits_;
};

}  // namespace cairn::models
