#include "data/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <vector>

#include "data/augment_ops.h"
#include "kernels/error.h"
#include "kernels/philox.h"
#include "tests/data/simd_targets.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes noise(int size, uint64_t seed) {
  Bytes bytes(static_cast<size_t>(size) * size * 3);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(philox(seed, 0, i).v[0]);
  return bytes;
}

Bytes augmented(Augment level, const Bytes& source, int size, const AugmentKey& key) {
  Bytes out(static_cast<size_t>(size) * size * 3);
  augment_image(level, source.data(), out.data(), size, key);
  return out;
}

class AugmentOps : public EachSimdTarget {};
INSTANTIATE_TEST_SUITE_P(Targets, AugmentOps, testing::ValuesIn(simd_targets()), simd_target_name);

TEST_P(AugmentOps, EqualPillow) {
  constexpr int kSize = 17, kBytes = kSize * kSize * 3;
  std::ifstream file(CAIRN_SOURCE_DIR "/tests/fixtures/augment_ops.bin", std::ios::binary);
  const Bytes golden{std::istreambuf_iterator<char>(file), {}};
  // In the order of tests/fixtures/make_augment_ops.py.
  const std::pair<const char*, std::function<void(Pixels)>> operations[] = {
      {"autocontrast", autocontrast},
      {"equalize", equalize},
      {"solarize", [](Pixels p) { solarize(p, 179); }},
      {"posterize", [](Pixels p) { posterize(p, 5); }},
      {"brightness down", [](Pixels p) { brightness(p, 0.73f); }},
      {"brightness up", [](Pixels p) { brightness(p, 1.27f); }},
      {"contrast down", [](Pixels p) { contrast(p, 0.73f); }},
      {"contrast up", [](Pixels p) { contrast(p, 1.27f); }},
      {"saturation down", [](Pixels p) { saturation(p, 0.73f); }},
      {"saturation up", [](Pixels p) { saturation(p, 1.27f); }},
      {"sharpness down", [](Pixels p) { sharpness(p, 0.73f); }},
      {"sharpness up", [](Pixels p) { sharpness(p, 1.27f); }},
      {"flip", flip_horizontal},
  };
  ASSERT_EQ(golden.size(), (std::size(operations) + 1) * kBytes);
  for (size_t i = 0; i < std::size(operations); ++i) {
    Bytes image(golden.begin(), golden.begin() + kBytes);
    operations[i].second({image.data(), kSize});
    const Bytes expected(golden.begin() + static_cast<long>(i + 1) * kBytes,
                         golden.begin() + static_cast<long>(i + 2) * kBytes);
    EXPECT_EQ(image, expected) << operations[i].first;
  }
}

// The operations that do arithmetic on vectors against one pixel at a time, at sizes around a vector's.
uint8_t blended(float from, float to, float factor) {
  return static_cast<uint8_t>(std::clamp(from + factor * (to - from), 0.0f, 255.0f));
}

Bytes naive_saturation(const Bytes& image, float factor) {
  Bytes out = image;
  for (size_t i = 0; i < image.size(); i += 3) {
    const int level = (image[i] * 19595 + image[i + 1] * 38470 + image[i + 2] * 7471 + 0x8000) >> 16;
    for (size_t c = 0; c < 3; ++c) out[i + c] = blended(static_cast<float>(level), image[i + c], factor);
  }
  return out;
}

Bytes naive_sharpness(const Bytes& image, int size, float factor) {
  Bytes out = image;
  for (int y = 1; y + 1 < size; ++y) {
    for (int x = 1; x + 1 < size; ++x) {
      for (int c = 0; c < 3; ++c) {
        double sum = 4.0 * image[(y * size + x) * 3 + c];
        for (int dy = -1; dy <= 1; ++dy) {
          for (int dx = -1; dx <= 1; ++dx) sum += image[((y + dy) * size + x + dx) * 3 + c];
        }
        const auto smooth = static_cast<float>(std::floor(sum / 13 + 0.5));
        out[(y * size + x) * 3 + c] = blended(smooth, image[(y * size + x) * 3 + c], factor);
      }
    }
  }
  return out;
}

// In double, with the places in 16 bits and the weights in 8 after the point, as augment_ops.h has them.
Bytes naive_warp(const Bytes& image, int size, const Affine& from) {
  Bytes out(image.size());
  const auto value = [&](int64_t x, int64_t y, int c) -> double {
    return x < 0 || y < 0 || x >= size || y >= size ? 128 : image[(y * size + x) * 3 + c];
  };
  const auto fixed = [](float v) { return std::llround(v * 65536.0f); };
  const float centre = static_cast<float>(size - 1) / 2;
  for (int y = 0; y < size; ++y) {
    const float v = static_cast<float>(y) - centre;
    for (int x = 0; x < size; ++x) {
      const int64_t sx = fixed(-from.xx * centre + from.xy * v + from.dx + centre) + x * fixed(from.xx);
      const int64_t sy = fixed(-from.yx * centre + from.yy * v + from.dy + centre) + x * fixed(from.yx);
      const int64_t ix = sx >> 16, iy = sy >> 16;
      const double fx = static_cast<double>(sx >> 8 & 255) / 256,
                   fy = static_cast<double>(sy >> 8 & 255) / 256;
      for (int c = 0; c < 3; ++c) {
        const double upper = value(ix, iy, c) * (1 - fx) + value(ix + 1, iy, c) * fx;
        const double lower = value(ix, iy + 1, c) * (1 - fx) + value(ix + 1, iy + 1, c) * fx;
        out[(y * size + x) * 3 + c] = static_cast<uint8_t>(std::floor(upper * (1 - fy) + lower * fy + 0.5));
      }
    }
  }
  return out;
}

TEST_P(AugmentOps, VectorsEqualOnePixelAtATime) {
  for (const int size : {1, 2, 5, 15, 16, 17, 33, 63, 65, 130}) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const Bytes source = noise(size, seed);
      const float factor = 0.37f + 0.31f * static_cast<float>(seed);
      Bytes saturated = source, sharpened = source;
      saturation({saturated.data(), size}, factor);
      sharpness({sharpened.data(), size}, factor);
      EXPECT_EQ(saturated, naive_saturation(source, factor)) << size << " " << factor;
      EXPECT_EQ(sharpened, naive_sharpness(source, size, factor)) << size << " " << factor;
      const float angle = 0.2f * static_cast<float>(seed) - 0.5f, shift = 3.3f * angle;
      for (const Affine& from :
           {Affine{
                .xx = std::cos(angle), .xy = std::sin(angle), .yx = -std::sin(angle), .yy = std::cos(angle)},
            Affine{.xy = angle}, Affine{.yx = angle}, Affine{.dx = shift, .dy = -2 * shift},
            Affine{.dx = 1000}, Affine{.xx = 0, .yx = 1e-5f}, Affine{.xx = -1, .yy = -1}}) {
        Bytes warped = source;
        warp({warped.data(), size}, from);
        EXPECT_EQ(warped, naive_warp(source, size, from)) << size << " " << angle;
      }
    }
  }
}

TEST_P(AugmentOps, SmallestImages) {
  for (const int size : {1, 2, 3}) {
    for (const auto& operation :
         {autocontrast, equalize, flip_horizontal, +[](Pixels p) { sharpness(p, 1.5f); },
          +[](Pixels p) { contrast(p, 0.5f); }, +[](Pixels p) { warp(p, {.xy = 0.1f, .dx = 5}); }}) {
      Bytes image = noise(size, 3);
      operation({image.data(), size});
    }
  }
}

TEST_P(AugmentOps, WarpShiftsAndTurns) {
  constexpr int kSize = 8;
  const Bytes source = noise(kSize, 1);
  const auto at = [&](const Bytes& image, int x, int y) { return image[(y * kSize + x) * 3 + 1]; };
  Bytes same = source, shifted = source, turned = source;
  warp({same.data(), kSize}, {});
  EXPECT_EQ(same, source);
  warp({shifted.data(), kSize}, {.dx = 2, .dy = -1});
  warp({turned.data(), kSize}, {.xx = 0, .xy = 1, .yx = -1, .yy = 0});
  for (int y = 0; y < kSize; ++y) {
    for (int x = 0; x < kSize; ++x) {
      EXPECT_EQ(at(shifted, x, y), x + 2 < kSize && y >= 1 ? at(source, x + 2, y - 1) : 128);
      EXPECT_EQ(at(turned, x, y), at(source, y, kSize - 1 - x));
    }
  }
}

TEST(Augment, NoneCopies) {
  EXPECT_EQ(augment_source_size(Augment::none, 24), 24);
  const Bytes source = noise(24, 1);
  EXPECT_EQ(augmented(Augment::none, source, 24, {1, 2, 3}), source);
}

TEST(Augment, IsAFunctionOfSeedEpochAndPosition) {
  EXPECT_EQ(augment_source_size(Augment::light, 224), 256);
  for (const Augment level : {Augment::light, Augment::standard}) {
    const Bytes source = noise(augment_source_size(level, 28), 1);
    std::set<Bytes> outputs;
    for (const AugmentKey key :
         {AugmentKey{1, 2, 3}, AugmentKey{2, 2, 3}, AugmentKey{1, 3, 3}, AugmentKey{1, 2, 4}}) {
      const Bytes first = augmented(level, source, 28, key);
      EXPECT_EQ(first, augmented(level, source, 28, key));
      outputs.insert(first);
    }
    EXPECT_EQ(outputs.size(), 4u);
  }
}

// On a picture that holds its own coordinates, the crop and flip of `light` can be read off: the box lies
// inside, has 0.6 to 1 of the area and 3/4 to 4/3 of the aspect, and half of all are turned round.
TEST(Augment, LightCropsWithinItsLimits) {
  constexpr int kSize = 224;
  const int source_size = augment_source_size(Augment::light, kSize);
  Bytes source(static_cast<size_t>(source_size) * source_size * 3);
  for (int y = 0; y < source_size; ++y) {
    for (int x = 0; x < source_size; ++x) {
      uint8_t* rgb = &source[static_cast<size_t>(y * source_size + x) * 3];
      rgb[0] = static_cast<uint8_t>(x * 255 / (source_size - 1));
      rgb[1] = static_cast<uint8_t>(y * 255 / (source_size - 1));
      rgb[2] = 77;
    }
  }
  int flips = 0;
  double smallest = 1, largest = 0;
  for (int i = 0; i < 200; ++i) {
    const Bytes out = augmented(Augment::light, source, kSize, {5, 0, i});
    const uint8_t *first = &out[0], *last = &out[out.size() - 3];
    EXPECT_EQ(first[2], 77);
    flips += first[0] > last[0];
    // Half a pixel at each end and a level of rounding: 3 of 255.
    const double width = std::abs(first[0] - last[0]) / 255.0, height = (last[1] - first[1]) / 255.0;
    const double slack = 3 / 255.0;
    EXPECT_GE((width + slack) * (height + slack), 0.6);
    EXPECT_LE(width * height, 1.0);
    EXPECT_LE((width - slack) / height, 4.0 / 3);
    EXPECT_LE((height - slack) / width, 4.0 / 3);
    smallest = std::min(smallest, width * height);
    largest = std::max(largest, width * height);
  }
  EXPECT_NEAR(flips, 100, 5 * std::sqrt(50.0));
  EXPECT_LT(smallest, 0.65);
  EXPECT_GT(largest, 0.93);
}

TEST(Augment, StandardRunsAtAnySize) {
  for (const int size : {1, 2, 5, 33}) {
    const Bytes source = noise(augment_source_size(Augment::standard, size), 2);
    for (int i = 0; i < 200; ++i) augmented(Augment::standard, source, size, {1, 0, i});
  }
}

// One picture is all 200, the other all 100: what was mixed can be read off the pixels.
TEST(Mix, LambdaSaysWhatThePixelsHold) {
  constexpr int kSize = 32;
  int plain = 0, mixup = 0, cutmix = 0;
  for (int i = 0; i < 400; ++i) {
    Bytes a(kSize * kSize * 3, 200), b(kSize * kSize * 3, 100);
    const Mix mix = mix_pair(a.data(), b.data(), kSize, {9, 1, 2 * i});
    ASSERT_GE(mix.lambda, 0);
    ASSERT_LE(mix.lambda, 1);
    const std::set<uint8_t> values(a.begin(), a.end());
    double mean_a = 0, mean_b = 0;
    for (const uint8_t v : a) mean_a += v;
    for (const uint8_t v : b) mean_b += v;
    mean_a /= static_cast<double>(a.size());
    mean_b /= static_cast<double>(b.size());
    // Exact but for the rounding of mixup's pixels.
    EXPECT_NEAR(mean_a, 100 + 100 * mix.lambda, 0.5);
    EXPECT_NEAR(mean_b, 200 - 100 * mix.lambda, 0.5);
    if (mix.lambda == 1) {
      ++plain;
    } else if (values.size() == 2) {
      ++cutmix;
    } else {
      ++mixup;
    }
  }
  // Half of 400; mixup and CutMix a quarter each, less those whose lambda is 1 by rounding.
  EXPECT_GT(plain, 150);
  EXPECT_GT(mixup, 40);
  EXPECT_GT(cutmix, 70);
}

TEST(Augment, NamesReadBack) {
  for (const Augment level : {Augment::none, Augment::light, Augment::standard}) {
    EXPECT_EQ(parse_augment(augment_name(level)), level);
  }
  EXPECT_THROW(parse_augment("heavy"), InputError);
}

}  // namespace
}  // namespace cairn::data
