#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "apps/model_card.h"
#include "data/dataset/dataset.h"
#include "data/decode/decode.h"
#include "data/image.h"
#include "engine/nn/module.h"

namespace cairn::report {

/// What the model saw of an image, and the same with the places that spoke for its answer laid over it.
struct ClassMap {
  std::int64_t item = 0;
  std::int32_t answer = 0;
  data::Image seen;             // [S,S], resized as the model has it
  std::vector<float> strength;  // [S,S] 0 ... 1
  data::Image overlay;          // of both
};

/// Grad-CAM (Selvaraju et al. 2017) of each item's answer over the last feature map, through the tape:
/// relu(sum over channels of mean(d logit / d A_c) * A_c), scaled to its largest value and enlarged. For a
/// network of global average pooling and one linear layer that is CAM (Zhou et al. 2016). Empty for models
/// that are no models::Classifier. Images that can no longer be read are left out.
std::vector<ClassMap> class_maps(nn::Module& model, const app::ModelCard& card, const data::Dataset& dataset,
                                 std::span<const std::int64_t> items, const data::DecodeOptions& decode,
                                 Device device);

}  // namespace cairn::report
