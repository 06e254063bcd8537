#include "data/augment_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

namespace cairn::data {
namespace {

constexpr uint8_t kMidGrey = 128;
using Table = std::array<uint8_t, 256>;

void apply_table(Pixels image, int channel, const Table& table) {
  for (int64_t i = 0; i < image.count(); ++i) {
    uint8_t& value = image.data[3 * i + channel];
    value = table[value];
  }
}

void apply_table(Pixels image, const Table& table) {
  for (int64_t i = 0; i < 3 * image.count(); ++i) image.data[i] = table[image.data[i]];
}

std::array<int64_t, 256> histogram(Pixels image, int channel) {
  std::array<int64_t, 256> counts{};
  for (int64_t i = 0; i < image.count(); ++i) ++counts[image.data[3 * i + channel]];
  return counts;
}

// Pillow's Image.blend: from + factor (to - from) in float, cut off below 0, above 255 and after the point.
uint8_t blend(uint8_t from, uint8_t to, float factor) {
  const float value = static_cast<float>(from) + factor * (static_cast<float>(to) - static_cast<float>(from));
  return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

// ITU-R 601-2 luma in 16-bit fixed point, as Pillow's convert("L").
uint8_t grey(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

}  // namespace

void flip_horizontal(Pixels image) {
  for (int y = 0; y < image.size; ++y) {
    uint8_t* left = image.data + int64_t{y} * image.size * 3;
    for (uint8_t* right = left + int64_t{image.size - 1} * 3; left < right; left += 3, right -= 3) {
      std::swap_ranges(left, left + 3, right);
    }
  }
}

void autocontrast(Pixels image) {
  for (int channel = 0; channel < 3; ++channel) {
    const auto counts = histogram(image, channel);
    int low = 0, high = 255;
    while (low < 255 && counts[low] == 0) ++low;
    while (high > 0 && counts[high] == 0) --high;
    if (high <= low) continue;
    const double scale = 255.0 / (high - low), offset = -low * scale;
    Table table;
    for (int i = 0; i < 256; ++i) {
      table[i] = static_cast<uint8_t>(std::clamp(static_cast<int>(i * scale + offset), 0, 255));
    }
    apply_table(image, channel, table);
  }
}

void equalize(Pixels image) {
  for (int channel = 0; channel < 3; ++channel) {
    const auto counts = histogram(image, channel);
    int last = 255;
    while (last > 0 && counts[last] == 0) --last;
    const int64_t step = (image.count() - counts[last]) / 255;
    if (step == 0) continue;
    Table table;
    int64_t below = step / 2;
    for (int i = 0; i < 256; ++i) {
      table[i] = static_cast<uint8_t>(std::min<int64_t>(below / step, 255));
      below += counts[i];
    }
    apply_table(image, channel, table);
  }
}

void solarize(Pixels image, int threshold) {
  Table table;
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i < threshold ? i : 255 - i);
  apply_table(image, table);
}

void posterize(Pixels image, int bits) {
  Table table;
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i & ~((1 << (8 - bits)) - 1));
  apply_table(image, table);
}

void brightness(Pixels image, float factor) {
  Table table;
  for (int i = 0; i < 256; ++i) table[i] = blend(0, static_cast<uint8_t>(i), factor);
  apply_table(image, table);
}

void contrast(Pixels image, float factor) {
  int64_t sum = 0;
  for (int64_t i = 0; i < image.count(); ++i) sum += grey(image.data + 3 * i);
  const double mean = static_cast<double>(sum) / static_cast<double>(image.count());
  const auto middle = static_cast<uint8_t>(mean + 0.5);
  Table table;
  for (int i = 0; i < 256; ++i) table[i] = blend(middle, static_cast<uint8_t>(i), factor);
  apply_table(image, table);
}

void saturation(Pixels image, float factor) {
  // Levels are spread to one a value first: the blend is then a plain loop that compilers vectorise.
  const int64_t row = int64_t{image.size} * 3;
  std::vector<uint8_t> levels(row);
  for (int y = 0; y < image.size; ++y) {
    uint8_t* rgb = image.data + y * row;
    for (int64_t i = 0; i < row; i += 3) std::memset(&levels[i], grey(rgb + i), 3);
    for (int64_t i = 0; i < row; ++i) rgb[i] = blend(levels[i], rgb[i], factor);
  }
}

// The smoothed picture is the mean over 3 x 3 with weight 5 in the middle; the outermost pixels stay.
void sharpness(Pixels image, float factor) {
  const int64_t row = int64_t{image.size} * 3;
  const std::vector<uint8_t> from(image.data, image.data + row * image.size);
  for (int y = 1; y + 1 < image.size; ++y) {
    for (int64_t x = 3; x + 3 < row; ++x) {
      const uint8_t* p = from.data() + y * row + x;
      const int sum =
          p[-row - 3] + p[-row] + p[-row + 3] + p[-3] + 5 * p[0] + p[3] + p[row - 3] + p[row] + p[row + 3];
      const auto smooth = static_cast<uint8_t>((2 * sum + 13) / 26);  // rounded; 13 divides no tie
      image.data[y * row + x] = blend(smooth, p[0], factor);
    }
  }
}

// Places in 16-bit fixed point, weights in 8 bits; a grey frame around the source spares the test at each
// corner.
void warp(Pixels image, const Affine& from) {
  const int n = image.size;
  const int64_t row = int64_t{n} * 3, padded_row = row + 6;
  std::vector<uint8_t> padded(padded_row * (n + 2), kMidGrey);
  for (int y = 0; y < n; ++y) std::memcpy(&padded[(y + 1) * padded_row + 3], image.data + y * row, row);
  const auto fixed = [](float value) { return std::llround(value * 65536.0f); };
  const float centre = static_cast<float>(n - 1) / 2;
  const int64_t step_x = fixed(from.xx), step_y = fixed(from.yx);
  const int64_t end =
      int64_t{n + 1} << 16;  // places in (-1, n) touch the image; the frame shifts them by one
  for (int y = 0; y < n; ++y) {
    const float v = static_cast<float>(y) - centre;
    int64_t sx = fixed(-from.xx * centre + from.xy * v + from.dx + centre) + 65536;
    int64_t sy = fixed(-from.yx * centre + from.yy * v + from.dy + centre) + 65536;
    uint8_t* dst = image.data + y * row;
    for (int x = 0; x < n; ++x, dst += 3, sx += step_x, sy += step_y) {
      if (sx < 0 || sy < 0 || sx >= end || sy >= end) {
        std::memset(dst, kMidGrey, 3);
        continue;
      }
      const uint8_t* top = &padded[(sy >> 16) * padded_row + (sx >> 16) * 3];
      const uint8_t* bottom = top + padded_row;
      const int fx = static_cast<int>(sx >> 8 & 255), fy = static_cast<int>(sy >> 8 & 255);
      for (int c = 0; c < 3; ++c) {
        const int upper = top[c] * (256 - fx) + top[c + 3] * fx;
        const int lower = bottom[c] * (256 - fx) + bottom[c + 3] * fx;
        dst[c] = static_cast<uint8_t>((upper * (256 - fy) + lower * fy + (1 << 15)) >> 16);
      }
    }
  }
}

void erase(Pixels image, int x, int y, int width, int height) {
  for (int i = y; i < y + height; ++i) {
    std::memset(image.data + (int64_t{i} * image.size + x) * 3, kMidGrey, static_cast<size_t>(width) * 3);
  }
}

}  // namespace cairn::data
