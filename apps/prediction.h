#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apps/console.h"
#include "apps/model_card.h"
#include "data/dataset/dataset.h"
#include "data/decode/decode.h"
#include "data/loader.h"
#include "engine/nn/module.h"

namespace cairn::app {

/// Images a forward pass, the same everywhere, so that `train`, `evaluate` and `predict` say the same of one
/// image. Enough to keep the cores busy; with 64, ResNet-18's activations take 400 MB, and touching so much
/// memory for the first time took longer than what larger products save.
inline constexpr std::int64_t kPredictBatch = 32;

/// What a model answers for some images.
struct Predictions {
  std::int64_t classes = 0;
  std::vector<std::int64_t> items;   // [n] into the data set
  std::vector<std::int32_t> labels;  // [n] -1 where the data set has none
  std::vector<float> logits;         // [n, classes]

  std::size_t size() const { return items.size(); }
  std::span<const float> logits_of(std::size_t i) const {
    return {logits.data() + i * static_cast<std::size_t>(classes), static_cast<std::size_t>(classes)};
  }
  /// The class of the largest logit, the first at a tie.
  std::int32_t answer(std::size_t i) const;
  std::vector<std::int32_t> answers() const;
  /// Mean of -log softmax(logits)[label].
  double mean_loss() const;
  /// Every logit of every image is 0: a ReLU on the logits that died.
  bool all_zero() const;
};

/// Of logits / temperature.
std::vector<double> softmax_of(std::span<const float> logits, double temperature = 1);
/// Class indices by falling logit, the smaller index first at a tie; at most k.
std::vector<std::int32_t> top_classes(std::span<const float> logits, std::size_t k);

/// images [n,S,S,3] uint8 on the host -> logits [n,classes] fp32 on the device; of their mirror images if
/// asked.
Tensor forward_images(nn::Module& model, const std::uint8_t* images, std::int64_t n, std::int64_t size,
                      DType dtype, const Normalization& normalization, Device device, bool mirrored = false);

/// One epoch of the loader through the model in evaluation mode, fp32. Leaves the model in that mode.
Predictions predict_loader(nn::Module& model, data::Loader& loader, const ModelCard& card, Device device);

struct PredictOptions {
  data::DecodeOptions decode;
  int workers = 0;
  DType precision = DType::f32;                     // of activations
  bool mirrored_too = false;                        // the mean logits of each image and its mirror image
  std::function<void(std::int64_t done)> progress;  // may be empty
};
struct TolerantPredictions {
  Predictions predictions;
  std::vector<std::string> left_out;  // one line each: file and reason
};
/// The items through the model, in their order; images that cannot be read are left out and named. The next
/// batch is decoded while one is computed.
TolerantPredictions predict_items(nn::Module& model, const data::Dataset& dataset,
                                  std::span<const std::int64_t> items, const ModelCard& card, Device device,
                                  const PredictOptions& options);

}  // namespace cairn::app
