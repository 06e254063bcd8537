#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "apps/model_card.h"
#include "data/dataset/dataset.h"
#include "engine/nn/module.h"

namespace cairn::app {

/// The uint8 [S,S,3] that a model of this card is given for an image file: decoded exactly, resized as the
/// card says. Throws data::ImageError.
std::vector<std::uint8_t> expected_input(const std::vector<std::uint8_t>& file, const ModelCard& card,
                                         const std::string& name);

/// A PNG whose stripes and edges show every way to decode or resize it wrongly: 1.5 S wide and 2 S high, so
/// that both axes shrink, and not by a whole number.
std::vector<std::uint8_t> sample_png(std::int64_t size);

/// What another program needs to use the model and to prove that it prepares images the same way: the card,
/// decode and resize in words, a sample image (PNG in base64), the SHA-256 of the uint8 [S,S,3] that comes of
/// it, and the model's logits for it.
io::Metadata export_metadata(nn::Module& model, const ModelCard& card, Device device);

}  // namespace cairn::app
