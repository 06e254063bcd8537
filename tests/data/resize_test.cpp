#include "data/resize.h"

#include <gtest/gtest.h>

#include <map>

#include "data/decode/decode.h"
#include "kernels/error.h"
#include "tests/data/decode_fixtures.h"
#include "tests/data/simd_targets.h"

namespace cairn::data {
namespace {

const Image& picture(const std::string& name) {
  static std::map<std::string, Image> images;
  const auto [place, is_new] = images.try_emplace(name);
  if (is_new) place->second = decode_image(decode_fixture(name), {}, name);
  return place->second;
}

class Resize : public EachSimdTarget {};

TEST_P(Resize, EqualsPillowBitForBit) {
  int cases = 0;
  for (auto& line : decode_table("resized.txt")) {
    std::string name;
    float x0, y0, x1, y1;
    int width, height;
    uint32_t sum;
    ASSERT_TRUE(line >> name >> x0 >> y0 >> x1 >> y1 >> width >> height >> sum);
    const Image& image = picture(name);
    // Sentinels: no vector store may go beyond the result.
    std::vector<uint8_t> result(size_t{3} * width * height + 64, 0xA5);
    resize_bilinear(image.rgb.data(), image.width, image.height, x0, y0, x1, y1, result.data(), width,
                    height);
    EXPECT_EQ(adler({result.data(), result.size() - 64}), sum) << line.str();
    EXPECT_EQ(std::vector<uint8_t>(result.end() - 64, result.end()), std::vector<uint8_t>(64, 0xA5))
        << line.str();
    ++cases;
  }
  EXPECT_EQ(cases, 189);
}

TEST_P(Resize, MakesTheSquaresOfTorchvisionAndPillow) {
  int cases = 0;
  for (auto& line : decode_table("squares.txt")) {
    std::string name, mode;
    int size;
    uint32_t sum;
    ASSERT_TRUE(line >> name >> mode >> size >> sum);
    std::vector<uint8_t> result(size_t{3} * size * size);
    resize_image(picture(name),
                 mode == "stretch" ? ResizeMode::stretch
                 : mode == "crop"  ? ResizeMode::crop
                                   : ResizeMode::pad,
                 size, result.data());
    EXPECT_EQ(adler(result), sum) << line.str();
    ++cases;
  }
  EXPECT_GT(cases, 90);
}

TEST_P(Resize, OfAFlatImageIsFlat) {
  const std::vector<uint8_t> flat(size_t{3} * 500 * 3, 255);
  std::vector<uint8_t> result(size_t{3} * 7 * 11);
  resize_bilinear(flat.data(), 500, 3, 0.25F, 0.5F, 499.5F, 2.75F, result.data(), 7, 11);
  EXPECT_EQ(result, std::vector<uint8_t>(result.size(), 255));
}

TEST_P(Resize, SurvivesExtremeShapes) {
  Image image{100'000, 1, std::vector<uint8_t>(300'000, 200)};
  std::vector<uint8_t> result(3 * 32 * 32);
  for (const ResizeMode mode : {ResizeMode::stretch, ResizeMode::crop, ResizeMode::pad}) {
    resize_image(image, mode, 32, result.data());
    EXPECT_EQ(result[3 * (32 * 16 + 16)], 200);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Resize, testing::ValuesIn(simd_targets()), simd_target_name);

TEST(ResizeArguments, AreChecked) {
  uint8_t pixels[3 * 4] = {}, result[3];
  EXPECT_THROW(resize_bilinear(pixels, 2, 2, 0, 0, 3, 2, result, 1, 1), Error);
  EXPECT_THROW(resize_bilinear(pixels, 2, 2, 1, 0, 1, 2, result, 1, 1), Error);
  EXPECT_THROW(resize_bilinear(pixels, 2, 2, 0, -1, 2, 2, result, 1, 1), Error);
  EXPECT_THROW(resize_bilinear(pixels, 2, 2, 0, 0, 2, 2, result, 0, 1), Error);
  EXPECT_THROW(resize_image(Image(), ResizeMode::crop, 4, result), Error);
}

}  // namespace
}  // namespace cairn::data
