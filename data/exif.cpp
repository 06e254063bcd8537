#include "data/exif.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cairn::data {

namespace {

/// Bounded reads of a TIFF block in its own byte order; out of bounds is told by ok().
class TiffReader {
 public:
  TiffReader(std::span<const uint8_t> bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  uint32_t read(uint64_t offset, int size) {
    if (offset + size > bytes_.size()) {
      ok_ = false;
      return 0;
    }
    uint32_t value = 0;
    for (int i = 0; i < size; ++i) {
      const uint32_t byte = bytes_[offset + i];
      value |= byte << 8 * (big_endian_ ? size - 1 - i : i);
    }
    return value;
  }
  bool ok() const { return ok_; }

 private:
  std::span<const uint8_t> bytes_;
  bool big_endian_;
  bool ok_ = true;
};

constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kByte = 1, kShort = 3, kLong = 4;  // TIFF field types that hold whole numbers

/// How an orientation reads its source: result(x, y) = stored(swap ? (y, x) : (x, y)), mirrored after that.
struct Turn {
  bool swap, mirror_x, mirror_y;
};
constexpr Turn kTurns[9] = {{false, false, false}, {false, false, false}, {false, true, false},
                            {false, true, true},   {false, false, true},  {true, false, false},
                            {true, false, true},   {true, true, true},    {true, true, false}};

}  // namespace

int exif_orientation(std::span<const uint8_t> tiff) {
  constexpr uint8_t kPrefix[6] = {'E', 'x', 'i', 'f', 0, 0};  // some writers of PNG and WebP keep JPEG's
  if (tiff.size() >= 6 && std::memcmp(tiff.data(), kPrefix, 6) == 0) tiff = tiff.subspan(6);
  if (tiff.size() < 8 || tiff[0] != tiff[1] || (tiff[0] != 'I' && tiff[0] != 'M')) return 1;
  TiffReader reader(tiff, tiff[0] == 'M');
  if (reader.read(2, 2) != 42) return 1;
  const uint64_t directory = reader.read(4, 4);
  const uint32_t count = reader.read(directory, 2);
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    const uint64_t entry = directory + 2 + uint64_t{12} * i;
    if (reader.read(entry, 2) != kOrientationTag) continue;
    const uint32_t type = reader.read(entry + 2, 2), values = reader.read(entry + 4, 4);
    const int size = type == kByte ? 1 : type == kShort ? 2 : type == kLong ? 4 : 0;
    const uint32_t value = reader.read(entry + 8, size);
    return reader.ok() && values == 1 && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image apply_orientation(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const Turn turn = kTurns[orientation];
  const int64_t width = image.width, height = image.height;
  Image result{image.width, image.height, {}};
  if (turn.swap) std::swap(result.width, result.height);
  result.rgb.resize(image.rgb.size());
  // Source byte of result(0, 0), and the steps to its right and lower neighbour.
  const int64_t start = 3 * ((turn.mirror_x ? width - 1 : 0) + width * (turn.mirror_y ? height - 1 : 0));
  const int64_t step_column = turn.mirror_x ? -3 : 3, step_row = (turn.mirror_y ? -3 : 3) * width;
  const int64_t step_x = turn.swap ? step_row : step_column, step_y = turn.swap ? step_column : step_row;
  constexpr int kTile =
      32;  // 32 rows of 32 pixels: both sides of a turned tile stay in the first-level cache
  for (int y0 = 0; y0 < result.height; y0 += kTile) {
    for (int x0 = 0; x0 < result.width; x0 += kTile) {
      const int y1 = std::min(y0 + kTile, result.height), x1 = std::min(x0 + kTile, result.width);
      for (int y = y0; y < y1; ++y) {
        const uint8_t* src = image.rgb.data() + start + y * step_y + x0 * step_x;
        uint8_t* dst = result.rgb.data() + 3 * (int64_t{y} * result.width + x0);
        for (int x = x0; x < x1; ++x, src += step_x, dst += 3) {
          dst[0] = src[0];
          dst[1] = src[1];
          dst[2] = src[2];
        }
      }
    }
  }
  return result;
}

}  // namespace cairn::data
