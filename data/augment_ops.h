#pragma once
#include <cstdint>

// The single operations of `standard` augmentation, in place on an uint8 RGB image [size, size, 3]. Those on
// colour give what Pillow's ImageOps and ImageEnhance give, bit for bit.
namespace cairn::data {

struct Pixels {
  uint8_t* data;  // [size, size, 3]
  int size;
  int64_t count() const { return int64_t{size} * size; }
};

void flip_horizontal(Pixels image);
/// Stretches each channel to 0 … 255.
void autocontrast(Pixels image);
/// Makes each channel's histogram flat.
void equalize(Pixels image);
/// Inverts values from the threshold on.
void solarize(Pixels image, int threshold);
/// Keeps the top bits of each value.
void posterize(Pixels image, int bits);
/// Factors as in ImageEnhance: 1 changes nothing, 0 gives black, plain grey, a grey picture, a smoothed one.
void brightness(Pixels image, float factor);
void contrast(Pixels image, float factor);
void saturation(Pixels image, float factor);
void sharpness(Pixels image, float factor);

/// Where an output pixel comes from, in pixels from the image's centre: x' = xx x + xy y + dx, y' = yx x + yy
/// y + dy.
struct Affine {
  float xx = 1, xy = 0, dx = 0, yx = 0, yy = 1, dy = 0;
};
/// Bilinear; what comes from outside is mid-grey, the zero of the network's input range.
void warp(Pixels image, const Affine& from);

/// Fills a rectangle with mid-grey.
void erase(Pixels image, int x, int y, int width, int height);

}  // namespace cairn::data
