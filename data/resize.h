#pragma once
#include <cstdint>

#include "data/image.h"

namespace cairn::data {

enum class ResizeMode {
  stretch,  // both sides to the size, the aspect is not kept
  crop,     // the shorter side to the size, then the middle of the longer
  pad,      // the longer side to the size, the rest filled with white
};

/// Antialiased bilinear resize of the box (in source pixels, 0 <= x0 < x1 <= sw, and so for y) to dw x dh:
/// Pillow's Image.resize((dw, dh), BILINEAR, box) on 8-bit RGB, bit for bit (a triangle filter stretched by
/// the scale when shrinking, weights in fixed point with 22 bits, horizontal pass first, rounded to 8 bits
/// after each). src: [sh, sw, 3], dst: [dh, dw, 3], not overlapping. Throws Error for sizes or boxes outside
/// these.
void resize_bilinear(const uint8_t* src, int sw, int sh, float box_x0, float box_y0, float box_x1,
                     float box_y1, uint8_t* dst, int dw, int dh);

/// Resizes to a square. stretch: torchvision's Resize((size, size)); crop: Resize(size) and CenterCrop(size);
/// pad: Pillow's ImageOps.pad on white.
void resize_image(const Image& image, ResizeMode mode, int size,
                  uint8_t* dst);  // [size, size, 3]

}  // namespace cairn::data
