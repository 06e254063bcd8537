#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/image.h"

namespace cairn::data {

/// A baseline JPEG of the image, quality 1 to 100 (libjpeg's scale), 4:2:0. Throws Error for an image without
/// pixels or of a side beyond 65535.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality);

/// The bytes in base64 (RFC 4648, with padding), as data: addresses of pages want them.
std::string base64(const std::vector<uint8_t>& bytes);

}  // namespace cairn::data
