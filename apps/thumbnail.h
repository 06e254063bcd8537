#pragma once
#include <string>

#include "data/dataset/dataset.h"
#include "data/decode/decode.h"
#include "data/image.h"

namespace cairn::app {

inline constexpr int kThumbnailSide = 128;

/// The image decoded as it is, not resized. Throws InputError naming the file.
data::Image load_image(const data::Dataset& dataset, std::int64_t item, const data::DecodeOptions& decode);
/// Shrunk to kThumbnailSide at its longer side; its aspect is kept.
data::Image thumbnail(const data::Image& image);
/// A data: address of the image as a JPEG, for pages that are one file; some 5 KB for a thumbnail.
std::string data_address(const data::Image& image);
/// An <img> of it.
std::string image_tag(const data::Image& image);

/// Text of strangers (paths, class names) as JSON and HTML want it: bytes that are no UTF-8 are replaced.
std::string valid_utf8(const std::string& text);

}  // namespace cairn::app
