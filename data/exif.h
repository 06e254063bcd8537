#pragma once
#include <cstdint>
#include <span>

#include "data/image.h"

namespace cairn::data {

/// The orientation tag (0x0112) of the first directory of a TIFF block, which is what JPEG's APP1 (behind
/// "Exif\0\0"), PNG's eXIf and WebP's EXIF chunk hold. 1 (upright) where the block is damaged, has no such
/// tag, or a value outside 1 to 8.
int exif_orientation(std::span<const uint8_t> tiff);

/// Turns an image stored with this orientation upright, as Pillow's ImageOps.exif_transpose does.
/// Orientations 5 to 8 swap width and height; 1 gives the image back.
Image apply_orientation(Image image, int orientation);

}  // namespace cairn::data
