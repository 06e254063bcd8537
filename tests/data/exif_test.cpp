#include "data/exif.h"

#include <gtest/gtest.h>

#include <string_view>

namespace cairn::data {
namespace {

std::vector<uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

/// A little-endian TIFF block with one entry.
std::vector<uint8_t> tiff(uint8_t tag_low, uint8_t type, uint8_t count, uint8_t value) {
  std::vector<uint8_t> bytes = bytes_of(std::string_view("II\x2A\0\x08\0\0\0\x01\0", 10));
  for (const uint8_t byte : {tag_low, uint8_t{1}, type, uint8_t{0}, count, uint8_t{0}, uint8_t{0}, uint8_t{0},
                             value, uint8_t{0}, uint8_t{0}, uint8_t{0}}) {
    bytes.push_back(byte);
  }
  return bytes;
}

TEST(ExifOrientation, ReadsBothByteOrders) {
  EXPECT_EQ(exif_orientation(tiff(0x12, 3, 1, 6)), 6);
  EXPECT_EQ(exif_orientation(
                bytes_of(std::string_view("MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0", 22))),
            8);
  std::vector<uint8_t> prefixed = bytes_of(std::string_view("Exif\0\0", 6));
  const auto block = tiff(0x12, 4, 1, 3);  // LONG
  prefixed.insert(prefixed.end(), block.begin(), block.end());
  EXPECT_EQ(exif_orientation(prefixed), 3);
}

TEST(ExifOrientation, IsUprightWhereThereIsNone) {
  EXPECT_EQ(exif_orientation({}), 1);
  EXPECT_EQ(exif_orientation(bytes_of("II")), 1);
  EXPECT_EQ(exif_orientation(bytes_of("no TIFF at all")), 1);
  EXPECT_EQ(exif_orientation(tiff(0x13, 3, 1, 6)), 1);  // another tag
  EXPECT_EQ(exif_orientation(tiff(0x12, 3, 1, 0)), 1);
  EXPECT_EQ(exif_orientation(tiff(0x12, 3, 1, 9)), 1);
  EXPECT_EQ(exif_orientation(tiff(0x12, 2, 1, 6)), 1);  // text
  EXPECT_EQ(exif_orientation(tiff(0x12, 3, 2, 6)), 1);  // two values
}

TEST(ExifOrientation, StaysWithinItsBlock) {
  const std::vector<uint8_t> whole = tiff(0x12, 3, 1, 6);
  for (size_t size = 0; size < whole.size() - 2; ++size) {
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<int64_t>(size));
    EXPECT_EQ(exif_orientation(part), 1) << size;
  }
  // Offsets and counts as large as they get.
  std::vector<uint8_t> far = whole;
  far[4] = far[5] = far[6] = far[7] = 0xFF;
  EXPECT_EQ(exif_orientation(far), 1);
  std::vector<uint8_t> many = whole;
  many[8] = many[9] = 0xFF;
  EXPECT_EQ(exif_orientation(many), 6);  // the entry is there; the others that are claimed do not matter
  many[10] = 0x13;
  EXPECT_EQ(exif_orientation(many), 1);
}

TEST(ApplyOrientation, MovesTheFirstPixelAndItsNeighbours) {
  // 3 x 2 pixels numbered in reading order; EXIF's definition of the eight orientations.
  Image image{3, 2, {}};
  for (uint8_t i = 0; i < 6; ++i) {
    for (const int value : {int{i}, i + 10, 7}) image.rgb.push_back(static_cast<uint8_t>(value));
  }
  const std::vector<int> expected[9] = {{},
                                        {0, 1, 2, 3, 4, 5},
                                        {2, 1, 0, 5, 4, 3},
                                        {5, 4, 3, 2, 1, 0},
                                        {3, 4, 5, 0, 1, 2},
                                        {0, 3, 1, 4, 2, 5},
                                        {3, 0, 4, 1, 5, 2},
                                        {5, 2, 4, 1, 3, 0},
                                        {2, 5, 1, 4, 0, 3}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image turned = apply_orientation(image, orientation);
    EXPECT_EQ(turned.width, orientation < 5 ? 3 : 2);
    EXPECT_EQ(turned.height, orientation < 5 ? 2 : 3);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(turned.rgb[3 * i], expected[orientation][i]) << orientation << " pixel " << i;
      EXPECT_EQ(turned.rgb[3 * i + 1], expected[orientation][i] + 10);
      EXPECT_EQ(turned.rgb[3 * i + 2], 7);
    }
  }
}

TEST(ApplyOrientation, OfLargeImagesIsTheSameTileOrNot) {
  Image image{70, 41, {}};
  for (int i = 0; i < 70 * 41; ++i) {
    for (const int value : {i % 70, i / 70, 0}) image.rgb.push_back(static_cast<uint8_t>(value));
  }
  const Image turned = apply_orientation(image, 6);  // a quarter to the right
  ASSERT_EQ(turned.width, 41);
  for (int y = 0; y < 70; ++y) {
    for (int x = 0; x < 41; ++x) {
      EXPECT_EQ(turned.rgb[3 * (y * 41 + x)], y);
      EXPECT_EQ(turned.rgb[3 * (y * 41 + x) + 1], 40 - x);
    }
  }
}

}  // namespace
}  // namespace cairn::data
