#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/augment_ops.cpp"
#include "kernels/cpu/simd_targets.h"
// ^ first: Highway compiles what follows once a target
#include "data/augment_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "hwy/highway.h"

#ifndef CAIRN_AUGMENT_OPS_ONCE
#define CAIRN_AUGMENT_OPS_ONCE
namespace cairn::data {

constexpr uint8_t kMidGrey = 128;
using Table = std::array<uint8_t, 256>;

// ITU-R 601-2 luma in 16-bit fixed point, as Pillow's convert("L").
constexpr int32_t kRedShare = 19595, kGreenShare = 38470, kBlueShare = 7471;

inline uint8_t grey(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * kRedShare + rgb[1] * kGreenShare + rgb[2] * kBlueShare + 0x8000) >>
                              16);
}

// Pillow's Image.blend: from + factor (to - from) in float, cut off below 0, above 255 and after the point.
inline uint8_t blend(uint8_t from, uint8_t to, float factor) {
  const float value = static_cast<float>(from) + factor * (static_cast<float>(to) - static_cast<float>(from));
  return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

// A byte of warp(), between four others; the right neighbour lies three bytes on. fx, fy in 0 ... 255.
inline uint8_t between(const uint8_t* top, const uint8_t* bottom, int fx, int fy) {
  const int upper = top[0] * (256 - fx) + top[3] * fx;
  const int lower = bottom[0] * (256 - fx) + bottom[3] * fx;
  return static_cast<uint8_t>((upper * (256 - fy) + lower * fy + (1 << 15)) >> 16);
}

}  // namespace cairn::data
#endif

HWY_BEFORE_NAMESPACE();
namespace cairn::data::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using D8 = hn::ScalableTag<uint8_t>;
using D32 = hn::ScalableTag<int32_t>;
using DF = hn::ScalableTag<float>;
using DPart = hn::Rebind<uint8_t, D32>;  // as many bytes as a vector has 32-bit lanes
using V8 = hn::Vec<D8>;
using VF = hn::Vec<DF>;

// table[v] by sixteen lookups of sixteen entries: v - 16 k + 0x70, saturated, has its top bit clear for the
// sixteen values from 16 k on alone, and a byte whose index has the top bit set comes out as 0.
HWY_INLINE V8 lookup(V8 v, const uint8_t* table) {
  const D8 d;
  V8 result = hn::Zero(d);
  for (int k = 0; k < 16; ++k) {
    const V8 index = hn::SaturatedAdd(hn::Sub(v, hn::Set(d, static_cast<uint8_t>(16 * k))), hn::Set(d, 0x70));
    result = hn::Or(result, hn::TableLookupBytesOr0(hn::LoadDup128(d, table + 16 * k), index));
  }
  return result;
}

void look_up(uint8_t* data, int64_t n, const uint8_t* table) {
  const D8 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(lookup(hn::LoadU(d, data + i), table), d, data + i);
  for (; i < n; ++i) data[i] = table[data[i]];
}

// tables: [3, 256], one a channel.
void look_up_channels(uint8_t* data, int64_t pixels, const uint8_t* tables) {
  const D8 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= pixels; i += lanes) {
    V8 r, g, b;
    hn::LoadInterleaved3(d, data + 3 * i, r, g, b);
    hn::StoreInterleaved3(lookup(r, tables), lookup(g, tables + 256), lookup(b, tables + 512), d,
                          data + 3 * i);
  }
  for (; i < pixels; ++i) {
    for (int c = 0; c < 3; ++c) data[3 * i + c] = tables[256 * c + data[3 * i + c]];
  }
}

// The least and the largest value of each channel, [3, 2].
void find_ranges(const uint8_t* data, int64_t pixels, uint8_t* ranges) {
  const D8 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V8 low[3], high[3];
  for (int c = 0; c < 3; ++c) {
    low[c] = hn::Set(d, 255);
    high[c] = hn::Zero(d);
  }
  int64_t i = 0;
  for (; i + lanes <= pixels; i += lanes) {
    V8 v[3];
    hn::LoadInterleaved3(d, data + 3 * i, v[0], v[1], v[2]);
    for (int c = 0; c < 3; ++c) {
      low[c] = hn::Min(low[c], v[c]);
      high[c] = hn::Max(high[c], v[c]);
    }
  }
  HWY_ALIGN uint8_t bytes[HWY_MAX_BYTES];
  for (int c = 0; c < 3; ++c) {
    hn::Store(low[c], d, bytes);
    ranges[2 * c] = *std::min_element(bytes, bytes + lanes);
    hn::Store(high[c], d, bytes);
    ranges[2 * c + 1] = *std::max_element(bytes, bytes + lanes);
    for (int64_t k = i; k < pixels; ++k) {
      ranges[2 * c] = std::min(ranges[2 * c], data[3 * k + c]);
      ranges[2 * c + 1] = std::max(ranges[2 * c + 1], data[3 * k + c]);
    }
  }
}

void flip_rows(uint8_t* data, int size) {
  const hn::FixedTag<uint8_t, 16> d;
  using V = hn::Vec<hn::FixedTag<uint8_t, 16>>;
  alignas(16) static constexpr uint8_t kBackwards[16] = {15, 14, 13, 12, 11, 10, 9, 8,
                                                         7,  6,  5,  4,  3,  2,  1, 0};
  const V backwards = hn::Load(d, kBackwards);
  std::vector<uint8_t> from(static_cast<size_t>(size) * 3);
  for (int y = 0; y < size; ++y) {
    uint8_t* row = data + int64_t{y} * size * 3;
    std::memcpy(from.data(), row, from.size());
    int x = 0;
    for (; x + 16 <= size; x += 16) {
      V r, g, b;
      hn::LoadInterleaved3(d, from.data() + 3 * x, r, g, b);
      hn::StoreInterleaved3(hn::TableLookupBytes(r, backwards), hn::TableLookupBytes(g, backwards),
                            hn::TableLookupBytes(b, backwards), d, row + 3 * (size - 16 - x));
    }
    for (; x < size; ++x) std::memcpy(row + 3 * (size - 1 - x), from.data() + 3 * x, 3);
  }
}

using V32 = hn::Vec<D32>;

struct Channels {
  V32 r, g, b;
};
HWY_INLINE Channels load_pixels(const uint8_t* data) {
  const DPart d;
  const D32 d32;
  hn::Vec<DPart> r, g, b;
  hn::LoadInterleaved3(d, data, r, g, b);
  return {hn::PromoteTo(d32, r), hn::PromoteTo(d32, g), hn::PromoteTo(d32, b)};
}

HWY_INLINE V32 grey(const Channels& p) {
  const D32 d;
  const V32 sum = hn::Add(hn::Add(hn::Mul(p.r, hn::Set(d, kRedShare)), hn::Mul(p.g, hn::Set(d, kGreenShare))),
                          hn::Add(hn::Mul(p.b, hn::Set(d, kBlueShare)), hn::Set(d, 0x8000)));
  return hn::ShiftRight<16>(sum);
}

int64_t sum_of_grey(const uint8_t* data, int64_t pixels) {
  const D32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V32 sums = hn::Zero(d);  // a lane adds up at most 2^31 / 255 pixels: images have less
  int64_t i = 0;
  for (; i + lanes <= pixels; i += lanes) sums = hn::Add(sums, grey(load_pixels(data + 3 * i)));
  HWY_ALIGN int32_t parts[HWY_MAX_BYTES / 4];
  hn::Store(sums, d, parts);
  int64_t sum = 0;
  for (int64_t k = 0; k < lanes; ++k) sum += parts[k];
  for (; i < pixels; ++i) sum += data::grey(data + 3 * i);
  return sum;
}

// As data::blend. DemoteTo cuts off below 0 and above 255, ConvertTo after the point.
HWY_INLINE hn::Vec<DPart> blend(VF from, V32 to, VF factor) {
  const DF d;
  const VF value = hn::Add(from, hn::Mul(factor, hn::Sub(hn::ConvertTo(d, to), from)));
  return hn::DemoteTo(DPart(), hn::ConvertTo(D32(), value));
}

void saturate(uint8_t* data, int64_t pixels, float factor) {
  const DF d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VF f = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + lanes <= pixels; i += lanes) {
    const Channels p = load_pixels(data + 3 * i);
    const VF level = hn::ConvertTo(d, grey(p));
    hn::StoreInterleaved3(blend(level, p.r, f), blend(level, p.g, f), blend(level, p.b, f), DPart(),
                          data + 3 * i);
  }
  for (; i < pixels; ++i) {
    const uint8_t level = data::grey(data + 3 * i);
    for (int c = 0; c < 3; ++c) data[3 * i + c] = data::blend(level, data[3 * i + c], factor);
  }
}

// n values of one row: p points into the picture as it was, whose rows lie `row` bytes apart.
void sharpen_row(const uint8_t* p, int64_t row, int64_t n, float factor, uint8_t* out) {
  const D32 d32;
  const hn::Rebind<uint16_t, D32> d16;
  const DPart d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d32));
  const VF f = hn::Set(DF(), factor);
  const auto load = [&](int64_t i) HWY_ATTR { return hn::PromoteTo(d16, hn::LoadU(d8, p + i)); };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto middle = load(i);
    const auto above = hn::Add(hn::Add(load(i - row - 3), load(i - row)), load(i - row + 3));
    const auto below = hn::Add(hn::Add(load(i + row - 3), load(i + row)), load(i + row + 3));
    const auto beside = hn::Add(load(i - 3), load(i + 3));
    const auto sum =
        hn::Add(hn::Add(above, below), hn::Add(beside, hn::Add(hn::ShiftLeft<2>(middle), middle)));
    // (sum + 6) / 13: 5042 = (2^16 + 10) / 13, and 10 times at most 3321 stays below 2^16.
    const auto smooth = hn::MulHigh(hn::Add(sum, hn::Set(d16, 6)), hn::Set(d16, 5042));
    const VF from = hn::ConvertTo(DF(), hn::PromoteTo(d32, smooth));
    hn::StoreU(blend(from, hn::PromoteTo(d32, middle), f), d8, out + i);
  }
  for (; i < n; ++i) {
    const uint8_t* q = p + i;
    const int sum =
        q[-row - 3] + q[-row] + q[-row + 3] + q[-3] + 5 * q[0] + q[3] + q[row - 3] + q[row] + q[row + 3];
    out[i] = data::blend(static_cast<uint8_t>((sum + 6) / 13), q[0], factor);
  }
}

// n bytes that all lie at the same place between their neighbours: `next` bytes on and in the row below.
void shift_row(const uint8_t* top, const uint8_t* bottom, int64_t n, int fx, int fy, uint8_t* out) {
  const D32 d;
  const DPart d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const V32 right = hn::Set(d, fx), left = hn::Set(d, 256 - fx), low = hn::Set(d, fy),
            high = hn::Set(d, 256 - fy);
  const auto load = [&](const uint8_t* p) HWY_ATTR { return hn::PromoteTo(d, hn::LoadU(d8, p)); };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V32 upper = hn::Add(hn::Mul(load(top + i), left), hn::Mul(load(top + i + 3), right));
    const V32 lower = hn::Add(hn::Mul(load(bottom + i), left), hn::Mul(load(bottom + i + 3), right));
    const V32 sum = hn::Add(hn::Add(hn::Mul(upper, high), hn::Mul(lower, low)), hn::Set(d, 1 << 15));
    hn::StoreU(hn::DemoteTo(d8, hn::ShiftRight<16>(sum)), d8, out + i);
  }
  for (; i < n; ++i) out[i] = between(top + i, bottom + i, fx, fy);
}

// n pixels along a line through the picture, which is [rows, stride / 4, 4]; places have 16 bits after the
// point and lie inside. A pixel and its right neighbour are eight bytes in a row.
void sample_line(const uint8_t* from, int64_t stride, int n, int64_t sx, int64_t sy, int64_t step_x,
                 int64_t step_y, uint8_t* out) {
  const hn::FixedTag<uint8_t, 8> d8;
  const hn::FixedTag<uint16_t, 8> d16;
  const hn::FixedTag<uint32_t, 4> d32;
  const hn::FixedTag<int32_t, 4> d32s;
  const hn::FixedTag<uint8_t, 4> d4;
  for (int x = 0; x < n; ++x, out += 3, sx += step_x, sy += step_y) {
    const uint8_t* top = from + (sy >> 16) * stride + (sx >> 16) * 4;
    const auto fx = static_cast<uint32_t>(sx >> 8 & 255);
    const auto fy = static_cast<uint16_t>(sy >> 8 & 255);
    const auto upper = hn::PromoteTo(d16, hn::LoadU(d8, top));
    const auto lower = hn::PromoteTo(d16, hn::LoadU(d8, top + stride));
    const auto columns = hn::Add(hn::Mul(upper, hn::Set(d16, static_cast<uint16_t>(256 - fy))),
                                 hn::Mul(lower, hn::Set(d16, fy)));
    const auto left = hn::PromoteTo(d32, hn::LowerHalf(columns));
    const auto right = hn::PromoteTo(d32, hn::UpperHalf(hn::Half<decltype(d16)>(), columns));
    const auto sum = hn::Add(hn::Add(hn::Mul(left, hn::Set(d32, 256 - fx)), hn::Mul(right, hn::Set(d32, fx))),
                             hn::Set(d32, 1u << 15));
    uint8_t pixel[4];
    hn::StoreU(hn::DemoteTo(d4, hn::BitCast(d32s, hn::ShiftRight<16>(sum))), d4, pixel);
    std::memcpy(out, pixel, 3);
  }
}

}  // namespace
}  // namespace cairn::data::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::data {
namespace {

HWY_EXPORT(look_up);
HWY_EXPORT(look_up_channels);
HWY_EXPORT(find_ranges);
HWY_EXPORT(flip_rows);
HWY_EXPORT(sum_of_grey);
HWY_EXPORT(saturate);
HWY_EXPORT(sharpen_row);
HWY_EXPORT(shift_row);
HWY_EXPORT(sample_line);

void apply_table(Pixels image, const Table& table) {
  HWY_DYNAMIC_DISPATCH(look_up)(image.data, 3 * image.count(), table.data());
}

Table identity() {
  Table table;
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(i);
  return table;
}

// [3] channels. Two counts of each, since runs of one value would wait for each other.
std::array<std::array<int64_t, 256>, 3> histograms(Pixels image) {
  std::array<std::array<uint32_t, 256>, 6> counts{};
  const int64_t n = image.count();
  for (int64_t i = 0; i < n; ++i) {
    const size_t odd = i & 1 ? 3 : 0;
    for (size_t c = 0; c < 3; ++c) ++counts[odd + c][image.data[3 * i + static_cast<int64_t>(c)]];
  }
  std::array<std::array<int64_t, 256>, 3> sums;
  for (size_t c = 0; c < 3; ++c) {
    for (size_t i = 0; i < 256; ++i) sums[c][i] = int64_t{counts[c][i]} + counts[c + 3][i];
  }
  return sums;
}

}  // namespace

void flip_horizontal(Pixels image) { HWY_DYNAMIC_DISPATCH(flip_rows)(image.data, image.size); }

void autocontrast(Pixels image) {
  std::array<uint8_t, 6> ranges;
  HWY_DYNAMIC_DISPATCH(find_ranges)(image.data, image.count(), ranges.data());
  std::array<Table, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    const int low = ranges[2 * c], high = ranges[2 * c + 1];
    tables[c] = identity();
    if (high <= low) continue;
    const double scale = 255.0 / (high - low), offset = -low * scale;
    for (int i = 0; i < 256; ++i)
      tables[c][i] = static_cast<uint8_t>(std::clamp(static_cast<int>(i * scale + offset), 0, 255));
  }
  HWY_DYNAMIC_DISPATCH(look_up_channels)(image.data, image.count(), tables[0].data());
}

void equalize(Pixels image) {
  const auto counts = histograms(image);
  std::array<Table, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    tables[c] = identity();
    int last = 255;
    while (last > 0 && counts[c][last] == 0) --last;
    const int64_t step = (image.count() - counts[c][last]) / 255;
    if (step == 0) continue;
    int64_t below = step / 2;
    for (int i = 0; i < 256; ++i) {
      tables[c][i] = static_cast<uint8_t>(std::min<int64_t>(below / step, 255));
      below += counts[c][i];
    }
  }
  HWY_DYNAMIC_DISPATCH(look_up_channels)(image.data, image.count(), tables[0].data());
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
  const int64_t sum = HWY_DYNAMIC_DISPATCH(sum_of_grey)(image.data, image.count());
  const double mean = static_cast<double>(sum) / static_cast<double>(image.count());
  const auto middle = static_cast<uint8_t>(mean + 0.5);
  Table table;
  for (int i = 0; i < 256; ++i) table[i] = blend(middle, static_cast<uint8_t>(i), factor);
  apply_table(image, table);
}

void saturation(Pixels image, float factor) {
  HWY_DYNAMIC_DISPATCH(saturate)(image.data, image.count(), factor);
}

// The smoothed picture is the mean over 3 x 3 with weight 5 in the middle; the outermost pixels stay.
void sharpness(Pixels image, float factor) {
  const int64_t row = int64_t{image.size} * 3;
  const std::vector<uint8_t> from(image.data, image.data + row * image.size);
  for (int y = 1; y + 1 < image.size; ++y) HWY_DYNAMIC_DISPATCH(sharpen_row)
  (from.data() + y * row + 3, row, row - 6, factor, image.data + y * row + 3);
}

namespace {

// Places in 16-bit fixed point. Those in (-1, size) touch the image; a grey frame around it shifts them by
// one.
int64_t fixed_point(float value) { return std::llround(value * 65536.0f); }

// Of the source of pixel (0, y).
struct Place {
  int64_t x, y;
};
Place first_place(const Affine& from, int size, int y) {
  const float centre = static_cast<float>(size - 1) / 2, v = static_cast<float>(y) - centre;
  return {fixed_point(-from.xx * centre + from.xy * v + from.dx + centre) + 65536,
          fixed_point(-from.yx * centre + from.yy * v + from.dy + centre) + 65536};
}

// The pixels [begin, end) of a row whose places, first + i step, lie in [0, limit).
struct Range {
  int begin, end;
};
Range inside(int64_t first, int64_t step, int64_t limit, int size) {
  const auto ceil_div = [](int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); };
  int64_t begin = 0, end = size;
  if (step > 0) {
    begin = ceil_div(-first, step);
    end = ceil_div(limit - first, step);
  } else if (step < 0) {
    begin = ceil_div(first - limit + 1, -step);
    end = ceil_div(first + 1, -step);
  } else if (first < 0 || first >= limit) {
    end = 0;
  }
  begin = std::clamp<int64_t>(begin, 0, size);
  return {static_cast<int>(begin), static_cast<int>(std::clamp<int64_t>(end, begin, size))};
}

// Grey around, `channels` bytes a pixel: [size + 2, size + 2, channels], and 8 bytes to read too far.
std::vector<uint8_t> framed(Pixels image, int channels) {
  const int64_t row = int64_t{image.size + 2} * channels;
  std::vector<uint8_t> result(row * (image.size + 2) + 8, kMidGrey);
  for (int y = 0; y < image.size; ++y) {
    const uint8_t* from = image.data + int64_t{y} * image.size * 3;
    uint8_t* to = result.data() + (y + 1) * row + channels;
    if (channels == 3) {
      std::memcpy(to, from, int64_t{image.size} * 3);
    } else {
      for (int x = 0; x < image.size; ++x) std::memcpy(to + x * 4, from + x * 3, 3);
    }
  }
  return result;
}

}  // namespace

// Weights in 8 bits.
void warp(Pixels image, const Affine& from) {
  const int n = image.size;
  const int64_t limit = int64_t{n + 1} << 16;
  const int64_t step_x = fixed_point(from.xx), step_y = fixed_point(from.yx);
  // Shifted and sheared rows keep one place between the pixels from end to end.
  const bool rows_shift = step_x == 65536 && step_y == 0;
  const int channels = rows_shift ? 3 : 4;
  const std::vector<uint8_t> source = framed(image, channels);
  const int64_t stride = int64_t{n + 2} * channels;
  for (int y = 0; y < n; ++y) {
    const Place place = first_place(from, n, y);
    const Range x_range = inside(place.x, step_x, limit, n), y_range = inside(place.y, step_y, limit, n);
    const int begin = std::max(x_range.begin, y_range.begin), end = std::min(x_range.end, y_range.end);
    uint8_t* dst = image.data + int64_t{y} * n * 3;
    if (begin >= end) {
      std::memset(dst, kMidGrey, int64_t{n} * 3);
      continue;
    }
    std::memset(dst, kMidGrey, int64_t{begin} * 3);
    std::memset(dst + int64_t{end} * 3, kMidGrey, int64_t{n - end} * 3);
    const int64_t sx = place.x + begin * step_x, sy = place.y + begin * step_y;
    if (rows_shift) {
      const uint8_t* top = source.data() + (sy >> 16) * stride + (sx >> 16) * 3;
      HWY_DYNAMIC_DISPATCH(shift_row)
      (top, top + stride, int64_t{end - begin} * 3, static_cast<int>(sx >> 8 & 255),
       static_cast<int>(sy >> 8 & 255), dst + int64_t{begin} * 3);
    } else {
      HWY_DYNAMIC_DISPATCH(sample_line)
      (source.data(), stride, end - begin, sx, sy, step_x, step_y, dst + int64_t{begin} * 3);
    }
  }
}

void erase(Pixels image, int x, int y, int width, int height) {
  for (int i = y; i < y + height; ++i) {
    std::memset(image.data + (int64_t{i} * image.size + x) * 3, kMidGrey, static_cast<size_t>(width) * 3);
  }
}

}  // namespace cairn::data
#endif
