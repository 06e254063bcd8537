#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "data/augment_ops.h"
#include "data/resize.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace cairn::data {
namespace {

// The random numbers of one image at one position: as many as it takes, one after the other.
class Draws {
 public:
  Draws(const AugmentKey& key, PhiloxStream use)
      : seed_(key.seed),
        stream_(philox_stream(use, static_cast<uint64_t>(key.epoch))),
        index_(static_cast<uint64_t>(key.position) << 16) {}

  uint32_t word() {
    if (left_ == 0) {
      words_ = philox(seed_, stream_, index_++);
      left_ = 4;
    }
    return words_.v[--left_];
  }
  float uniform(float low, float high) { return low + (high - low) * uniform_float(word()); }
  int below(int n) { return static_cast<int>(uniform_below(word(), static_cast<uint32_t>(n))); }
  bool chance(float p) { return uniform_float(word()) < p; }
  float either_sign(float value) { return chance(0.5f) ? value : -value; }

 private:
  uint64_t seed_, stream_, index_;
  Philox4x32 words_{};
  int left_ = 0;
};

struct Box {
  float x, y, width, height;
};

// A box inside the unit square with area in [min_area, max_area] and aspect in [1 / max_aspect, max_aspect],
// both drawn as torchvision does (area evenly, aspect evenly in its logarithm); after ten misfits,
// `fallback`.
Box random_box(Draws& draws, float min_area, float max_area, float max_aspect, const Box& fallback) {
  for (int attempt = 0; attempt < 10; ++attempt) {
    const float area = draws.uniform(min_area, max_area);
    const float aspect = std::exp(draws.uniform(-std::log(max_aspect), std::log(max_aspect)));
    const float width = std::sqrt(area * aspect), height = std::sqrt(area / aspect);
    if (width <= 1 && height <= 1) {
      return {draws.uniform(0, 1 - width), draws.uniform(0, 1 - height), width, height};
    }
  }
  return fallback;
}

// One operation of RandAugment at magnitude 9 of 30, with the ranges of its authors as torchvision has them.
void random_operation(Draws& draws, Pixels image) {
  constexpr float kMagnitude = 9.0f / 30.0f;
  constexpr float kEnhance = 0.9f * kMagnitude;
  const float shear = draws.either_sign(0.3f * kMagnitude);
  const float shift = draws.either_sign(150.0f / 331.0f * kMagnitude * static_cast<float>(image.size));
  const float angle = draws.either_sign(30.0f * kMagnitude * 3.14159265f / 180);
  const float factor = 1 + draws.either_sign(kEnhance);
  switch (draws.below(14)) {
    case 0:
      return;  // identity
    case 1:
      return warp(image, {.xy = shear});
    case 2:
      return warp(image, {.yx = shear});
    case 3:
      return warp(image, {.dx = shift});
    case 4:
      return warp(image, {.dy = shift});
    case 5:
      return warp(
          image,
          {.xx = std::cos(angle), .xy = std::sin(angle), .yx = -std::sin(angle), .yy = std::cos(angle)});
    case 6:
      return brightness(image, factor);
    case 7:
      return saturation(image, factor);
    case 8:
      return contrast(image, factor);
    case 9:
      return sharpness(image, factor);
    case 10:
      return posterize(image, 7);  // 8 - round(4 * magnitude)
    case 11:
      return solarize(image, 179);  // 255 * (1 - magnitude), rounded up
    case 12:
      return autocontrast(image);
    case 13:
      return equalize(image);
  }
}

// Beta(alpha, alpha) by Jöhnk's method (1964), which suits alpha below 1.
float symmetric_beta(Draws& draws, float alpha) {
  for (int attempt = 0; attempt < 64; ++attempt) {
    const float x = std::pow(draws.uniform(0, 1), 1 / alpha), y = std::pow(draws.uniform(0, 1), 1 / alpha);
    if (x + y > 0 && x + y <= 1) return x / (x + y);
  }
  return 0.5f;
}

}  // namespace

std::string_view augment_name(Augment augment) {
  switch (augment) {
    case Augment::none:
      return "none";
    case Augment::light:
      return "light";
    case Augment::standard:
      return "standard";
  }
  throw Error("no such augmentation");
}

Augment parse_augment(std::string_view name) {
  for (const Augment a : {Augment::none, Augment::light, Augment::standard}) {
    if (name == augment_name(a)) return a;
  }
  throw InputError("'" + std::string(name) + "' is no augmentation: use none, light or standard");
}

// A crop of 0.6 to 1 of the area has 0.77 to 1 of the side: from an image kept at the output's own size it
// would always be enlarged; from one kept at 8/7 of that (256 for 224) four crops in ten are, by 1.13 at
// most. Measured on 360 crops of clip art against the same crops of the full images: mean difference 1.56
// levels and 0.92 of the edge contrast kept at 224, 1.18 and 0.94 at 256, 0.80 and 0.96 at 320. 320 would
// cost 1.6 times the cache and the resize of 256.
int augment_source_size(Augment augment, int size) {
  return augment == Augment::none ? size : (size * 8 + 6) / 7;
}

void augment_image(Augment augment, const uint8_t* src, uint8_t* dst, int size, const AugmentKey& key) {
  const Pixels image{dst, size};
  if (augment == Augment::none) {
    std::memcpy(dst, src, static_cast<size_t>(image.count()) * 3);
    return;
  }
  Draws draws(key, kStreamAugment);
  const int source = augment_source_size(augment, size);
  const auto side = static_cast<float>(source);
  const Box crop = random_box(draws, 0.6f, 1.0f, 4.0f / 3.0f, {0, 0, 1, 1});
  // Rounding must not carry the box over the edge.
  resize_bilinear(src, source, source, crop.x * side, crop.y * side,
                  std::min((crop.x + crop.width) * side, side), std::min((crop.y + crop.height) * side, side),
                  dst, size, size);
  if (draws.chance(0.5f)) flip_horizontal(image);
  if (augment != Augment::standard) return;

  for (int i = 0; i < 2; ++i) random_operation(draws, image);
  brightness(image, draws.uniform(0.8f, 1.2f));
  contrast(image, draws.uniform(0.8f, 1.2f));
  saturation(image, draws.uniform(0.8f, 1.2f));
  if (draws.chance(0.25f)) {
    const Box hole = random_box(draws, 0.02f, 0.33f, 3.3f, {0, 0, 0, 0});
    const auto pixels = [&](float share) { return static_cast<int>(share * static_cast<float>(size)); };
    erase(image, pixels(hole.x), pixels(hole.y), pixels(hole.width), pixels(hole.height));
  }
}

bool augment_mixes(Augment augment) { return augment == Augment::standard; }

Mix mix_pair(uint8_t* a, uint8_t* b, int size, const AugmentKey& key) {
  Draws draws(key, kStreamMix);
  const int choice = draws.below(4);
  if (choice < 2) return {};
  const int64_t values = int64_t{size} * size * 3;
  if (choice == 2) {
    const int weight = static_cast<int>(std::lround(256 * symmetric_beta(draws, 0.2f)));
    for (int64_t i = 0; i < values; ++i) {
      const int x = a[i], y = b[i];
      a[i] = static_cast<uint8_t>((x * weight + y * (256 - weight) + 128) >> 8);
      b[i] = static_cast<uint8_t>((y * weight + x * (256 - weight) + 128) >> 8);
    }
    return {static_cast<float>(weight) / 256};
  }
  // CutMix: both images swap one rectangle. Its centre may lie anywhere, what sticks out is cut off, and
  // lambda is the share that is left (the paper's algorithm 1).
  const float half = std::sqrt(1 - draws.uniform(0, 1)) * static_cast<float>(size) / 2;
  const float cx = draws.uniform(0, static_cast<float>(size)),
              cy = draws.uniform(0, static_cast<float>(size));
  const auto edge = [&](float at) { return std::clamp(static_cast<int>(std::lround(at)), 0, size); };
  const int left = edge(cx - half), right = edge(cx + half), top = edge(cy - half), bottom = edge(cy + half);
  for (int y = top; y < bottom; ++y) {
    const int64_t start = (int64_t{y} * size + left) * 3;
    std::swap_ranges(a + start, a + start + int64_t{right - left} * 3, b + start);
  }
  return {1 - static_cast<float>((right - left) * (bottom - top)) / static_cast<float>(size * size)};
}

}  // namespace cairn::data
