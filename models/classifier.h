#pragma once
#include "engine/nn/module.h"

namespace cairn::models {

/// An image classifier in two halves, so that what the last feature map shows can be asked for:
/// class-activation maps (Zhou et al. 2016; Selvaraju et al. 2017) are made of it and its gradient.
class Classifier : public nn::Module {
 public:
  /// [N,S,S,3] in the compute dtype -> the last feature map [N,h,w,C].
  virtual Tensor features(const Tensor& x) = 0;
  /// That map -> logits [N,classes] fp32.
  virtual Tensor classify(const Tensor& features) = 0;
  Tensor forward(const Tensor& x) override { return classify(features(x)); }
};

}  // namespace cairn::models
