#pragma once
#include "engine/nn/layers.h"
#include "models/classifier.h"

namespace cairn::models {

struct ModelCnnOptions {
  std::int64_t classes = 0;
  int image_size = 224;
  float block_dropout = 0.25f;  // after each block
  float head_dropout = 0.5f;    // before the last layer
};

/// Three blocks of conv 3x3, ReLU, max pool 2x2, dropout with 32, 64 and 128 channels; flatten; FC 512, ReLU,
/// dropout; FC to the classes. [N,S,S,3] in the compute dtype -> logits [N,classes] fp32.
class ModelCnn : public Classifier {
 public:
  ModelCnn(nn::Initializer& init, const ModelCnnOptions& options);
  Tensor features(const Tensor& x) override;
  Tensor classify(const Tensor& features) override;

 private:
  nn::Sequential& features_;
  nn::Sequential& classifier_;
};

}  // namespace cairn::models
