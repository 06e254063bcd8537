#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "data/decode/decode.h"
#include "data/encode.h"
#include "data/image.h"
#include "data/resize.h"
#include "kernels/philox.h"

// Copies of an image as people make them, for measuring how many are found.
namespace cairn::data {

/// Uniform in [low, high), by seed and place.
inline float drawn(uint64_t seed, uint64_t place, float low, float high) {
  return low + (high - low) * uniform_float(philox(seed, 0, place).v[0]);
}

inline Image resized(const Image& image, int width, int height) {
  Image result{std::max(width, 8), std::max(height, 8), {}};
  result.rgb.resize(size_t{3} * result.width * result.height);
  resize_bilinear(image.rgb.data(), image.width, image.height, 0, 0, static_cast<float>(image.width),
                  static_cast<float>(image.height), result.rgb.data(), result.width, result.height);
  return result;
}

inline Image scaled(const Image& image, float factor) {
  return resized(image, static_cast<int>(factor * static_cast<float>(image.width)),
                 static_cast<int>(factor * static_cast<float>(image.height)));
}

/// The shares of the sides that are cut away.
inline Image cropped(const Image& image, float left, float top, float right, float bottom) {
  const auto pixels = [](float share, int side) {
    return static_cast<int>(std::lround(share * static_cast<float>(side)));
  };
  const int x0 = pixels(left, image.width), x1 = image.width - pixels(right, image.width);
  const int y0 = pixels(top, image.height), y1 = image.height - pixels(bottom, image.height);
  Image result{x1 - x0, y1 - y0, {}};
  for (int y = y0; y < y1; ++y) {
    const auto row = image.rgb.begin() + (int64_t{y} * image.width + x0) * 3;
    result.rgb.insert(result.rgb.end(), row, row + int64_t{x1 - x0} * 3);
  }
  return result;
}

inline Image brightened(Image image, float factor) {
  for (uint8_t& value : image.rgb)
    value = static_cast<uint8_t>(std::min(255.0f, factor * static_cast<float>(value) + 0.5f));
  return image;
}

inline Image recompressed(const Image& image, int quality) {
  return decode_image(encode_jpeg(image, quality), {}, "copy.jpg");
}

struct Alteration {
  std::string name;
  std::function<Image(const Image&, uint64_t seed)> make;
};

inline std::vector<Alteration> alterations() {
  return {{"resized to 25 ... 90 %",
           [](const Image& i, uint64_t s) { return scaled(i, drawn(s, 0, 0.25f, 0.9f)); }},
          {"squeezed to 224 x 224", [](const Image& i, uint64_t) { return resized(i, 224, 224); }},
          {"recompressed, quality 25 ... 90",
           [](const Image& i, uint64_t s) { return recompressed(i, static_cast<int>(drawn(s, 1, 25, 90))); }},
          {"3 % cut off one side", [](const Image& i, uint64_t) { return cropped(i, 0.03f, 0, 0, 0); }},
          {"3 % of both sides cut off",
           [](const Image& i, uint64_t s) {
             const float x = drawn(s, 2, 0, 0.03f), y = drawn(s, 3, 0, 0.03f);
             return cropped(i, x, y, 0.03f - x, 0.03f - y);
           }},
          {"3 % cut off all around",
           [](const Image& i, uint64_t) { return cropped(i, 0.03f, 0.03f, 0.03f, 0.03f); }},
          {"brightened by 10 ... 30 %",
           [](const Image& i, uint64_t s) { return brightened(i, drawn(s, 4, 1.1f, 1.3f)); }},
          {"darkened by 10 ... 30 %",
           [](const Image& i, uint64_t s) { return brightened(i, drawn(s, 5, 0.7f, 0.9f)); }},
          {"cropped, resized, brightened, recompressed", [](const Image& i, uint64_t s) {
             const float x = drawn(s, 2, 0, 0.03f), y = drawn(s, 3, 0, 0.03f);
             const Image small = scaled(cropped(i, x, y, 0.03f - x, 0.03f - y), drawn(s, 0, 0.25f, 0.9f));
             return recompressed(brightened(small, drawn(s, 6, 0.85f, 1.2f)),
                                 static_cast<int>(drawn(s, 7, 50, 90)));
           }}};
}

}  // namespace cairn::data
