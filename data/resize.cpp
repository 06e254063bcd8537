// Pillow's Resample.c for 8-bit RGB. With the triangle filter f(t) = max(0, 1 - |t|), scale s = box / out and
// width r = max(s, 1), output i is centred at c = box0 + (i + 0.5) s and weighs source pixel x by
// f((x + 0.5 - c) / r), normalised to sum 1 and rounded to 22 bits after the point. Each pass is
// (sum of weight * pixel + 2^21) >> 22, cut off at 255. Since Pillow 13 the vertical pass is the first where
// the height shrinks by more than twice as many pixels as the width (which differs by a level here and
// there).
//
// The sums are exact in 32-bit integers, so any order gives Pillow's bits. A weight (0 to 2^22) is cut into
// its high and its low 11 bits, so that the 16-bit multiply-add of pairs serves both.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/resize.cpp"
#include "kernels/cpu/simd_targets.h"
// ^ first: Highway compiles what follows once a target
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "data/resize.h"
#include "data/resize_axis.h"
#include "hwy/highway.h"
#include "kernels/error.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::data::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using D8 = hn::ScalableTag<uint8_t>;
using D16 = hn::ScalableTag<int16_t>;
using D32 = hn::ScalableTag<int32_t>;
using V8 = hn::Vec<D8>;
using V32 = hn::Vec<D32>;
constexpr int kBlocks = static_cast<int>(HWY_MAX_BYTES / 16);  // rows that one vector holds 16 bytes of each

/// Adds the products of 16-bit pairs to their 32-bit lane.
HWY_INLINE V32 add_pair_products(V32 sum, V8 pixels, V32 weights) {
#if HWY_ARCH_X86
  V32 unused = hn::Zero(D32());
  return hn::ReorderWidenMulAccumulate(D32(), hn::BitCast(D16(), pixels), hn::BitCast(D16(), weights), sum,
                                       unused);
#else
  const D32 d;
  const V32 p = hn::BitCast(d, pixels);
  const V32 low = hn::Mul(hn::And(p, hn::Set(d, 0xFFFF)), hn::And(weights, hn::Set(d, 0xFFFF)));
  return hn::Add(sum, hn::Add(low, hn::Mul(hn::ShiftRight<16>(p), hn::ShiftRight<16>(weights))));
#endif
}

/// (high * 2^11 + low + 2^21) >> 22, at most 255.
HWY_INLINE V32 finish(V32 high, V32 low) {
  const D32 d;
  const V32 sum = hn::Add(hn::ShiftLeft<kLowBits>(high), hn::Add(low, hn::Set(d, 1 << (kWeightBits - 1))));
  return hn::Min(hn::ShiftRight<kWeightBits>(sum), hn::Set(d, 255));
}

/// 16 bytes of each of kBlocks rows.
HWY_INLINE V8 load_blocks(const uint8_t* const* rows, size_t offset) {
  const hn::Full128<uint8_t> d;
#if HWY_MAX_BYTES == 16
  return hn::LoadU(d, rows[0] + offset);
#elif HWY_MAX_BYTES == 32
  return hn::Combine(D8(), hn::LoadU(d, rows[1] + offset), hn::LoadU(d, rows[0] + offset));
#else
  const hn::Half<D8> h;
  return hn::Combine(D8(), hn::Combine(h, hn::LoadU(d, rows[3] + offset), hn::LoadU(d, rows[2] + offset)),
                     hn::Combine(h, hn::LoadU(d, rows[1] + offset), hn::LoadU(d, rows[0] + offset)));
#endif
}

/// Resizes kBlocks rows along x: rows[b] -> out[b], 3 * axis.count bytes. Reads up to kRowSlack bytes behind
/// a row's last pixel.
void resize_block_of_rows(const uint8_t* const* rows, const HorizontalAxis& axis, uint8_t* const* out) {
  const D8 d8;
  const D32 d32;
  // Pixels 0 and 1 (2 and 3) of a block's 16 bytes as 16-bit pairs of each channel; bit 7 set gives 0.
  alignas(16) static constexpr uint8_t kPair01[16] = {0, 128, 3, 128, 1,   128, 4,   128,
                                                      2, 128, 5, 128, 128, 128, 128, 128};
  alignas(16) static constexpr uint8_t kPair23[16] = {6, 128, 9,  128, 7,   128, 10,  128,
                                                      8, 128, 11, 128, 128, 128, 128, 128};
  const V8 pair01 = hn::LoadDup128(d8, kPair01), pair23 = hn::LoadDup128(d8, kPair23);
  HWY_ALIGN uint8_t pixels[4 * kBlocks];
  for (int x = 0; x < axis.count; ++x) {
    V32 high = hn::Zero(d32), low = hn::Zero(d32);
    const int32_t* weights = axis.weights.data() + size_t{4} * axis.group_begin[x];
    size_t offset = size_t{3} * axis.first[x];
    for (int g = axis.group_begin[x]; g < axis.group_begin[x + 1]; ++g, weights += 4, offset += 12) {
      const V8 source = load_blocks(rows, offset);
      const V8 p01 = hn::TableLookupBytesOr0(source, pair01), p23 = hn::TableLookupBytesOr0(source, pair23);
      const V32 w = hn::LoadDup128(d32, weights);
      high = add_pair_products(high, p01, hn::Broadcast<0>(w));
      high = add_pair_products(high, p23, hn::Broadcast<1>(w));
      low = add_pair_products(low, p01, hn::Broadcast<2>(w));
      low = add_pair_products(low, p23, hn::Broadcast<3>(w));
    }
    hn::StoreU(hn::DemoteTo(hn::Rebind<uint8_t, D32>(), finish(high, low)), hn::Rebind<uint8_t, D32>(),
               pixels);
    // A fourth byte is cheaper to write than to leave: the next pixel overwrites it, but for the last.
    const bool last = x + 1 == axis.count;
    for (int b = 0; b < kBlocks; ++b) {
      if (last) {
        std::memcpy(out[b] + 3 * x, pixels + 4 * b, 3);
      } else {
        std::memcpy(out[b] + 3 * x, pixels + 4 * b, 4);
      }
    }
  }
}

/// Resizes all rows of src, [rows, width, 3] -> dst, [rows, axis.count, 3].
void resize_rows(const uint8_t* src, int rows, int width, const HorizontalAxis& axis, uint8_t* dst) {
  const size_t stride = size_t{3} * width, out_stride = size_t{3} * axis.count,
               copy_stride = stride + kRowSlack;
  const uint8_t* const end = src + stride * static_cast<size_t>(rows);
  std::unique_ptr<uint8_t[]> copies;  // of the rows whose last group reads beyond the image
  for (int y = 0; y < rows; y += kBlocks) {
    const uint8_t* in[kBlocks];
    uint8_t* out[kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      const auto row = static_cast<size_t>(std::min(y + b, rows - 1));  // the last again, rather than none
      in[b] = src + stride * row;
      out[b] = dst + out_stride * row;
      if (static_cast<size_t>(end - in[b]) < copy_stride) {
        if (!copies) copies = std::make_unique<uint8_t[]>(copy_stride * kBlocks);
        std::memcpy(copies.get() + copy_stride * b, in[b], stride);
        in[b] = copies.get() + copy_stride * b;
      }
    }
    resize_block_of_rows(in, axis, out);
  }
}

/// A whole vector, or, where there are fewer bytes, these and zeros.
HWY_INLINE V8 load_bytes(const uint8_t* p, int n) {
  const D8 d8;
  if (n >= static_cast<int>(hn::Lanes(d8))) return hn::LoadU(d8, p);
  HWY_ALIGN uint8_t bytes[HWY_MAX_BYTES] = {};
  std::memcpy(bytes, p, static_cast<size_t>(n));
  return hn::Load(d8, bytes);
}

/// n bytes (at most a vector) of one output row, from `taps` rows that lie stride bytes apart.
HWY_INLINE V8 resize_column(const uint8_t* src, size_t stride, const int32_t* weights, int taps, int n) {
  const D8 d8;
  const D32 d32;
  const V8 zero = hn::Zero(d8);
  V32 high[4] = {hn::Zero(d32), hn::Zero(d32), hn::Zero(d32), hn::Zero(d32)};
  V32 low[4] = {hn::Zero(d32), hn::Zero(d32), hn::Zero(d32), hn::Zero(d32)};
  for (; taps > 0; taps -= 2, src += 2 * stride, weights += 2) {
    const V8 a = load_bytes(src, n), b = taps > 1 ? load_bytes(src + stride, n) : zero;
    const V8 lower = hn::InterleaveLower(d8, a, b), upper = hn::InterleaveUpper(d8, a, b);
    const V8 samples[4] = {hn::InterleaveLower(d8, lower, zero), hn::InterleaveUpper(d8, lower, zero),
                           hn::InterleaveLower(d8, upper, zero), hn::InterleaveUpper(d8, upper, zero)};
    const V32 w_high = hn::Set(d32, weights[0]), w_low = hn::Set(d32, weights[1]);
    for (int i = 0; i < 4; ++i) {
      high[i] = add_pair_products(high[i], samples[i], w_high);
      low[i] = add_pair_products(low[i], samples[i], w_low);
    }
  }
  // Lane l of part i is byte 4 i + l of its block: gather them in byte i of lane l, then transpose 4 x 4.
  const V32 bytes =
      hn::Or(hn::Or(finish(high[0], low[0]), hn::ShiftLeft<8>(finish(high[1], low[1]))),
             hn::Or(hn::ShiftLeft<16>(finish(high[2], low[2])), hn::ShiftLeft<24>(finish(high[3], low[3]))));
  alignas(16) static constexpr uint8_t kTranspose[16] = {0, 4, 8,  12, 1, 5, 9,  13,
                                                         2, 6, 10, 14, 3, 7, 11, 15};
  return hn::TableLookupBytes(hn::BitCast(d8, bytes), hn::LoadDup128(d8, kTranspose));
}

/// Resizes along y: src, whose first row is source row first_row, to dst, [axis.count, n] bytes.
void resize_columns(const uint8_t* src, int first_row, const VerticalAxis& axis, size_t n, uint8_t* dst) {
  const D8 d8;
  const size_t lanes = hn::Lanes(d8);
  HWY_ALIGN uint8_t few[HWY_MAX_BYTES];
  for (int y = 0; y < axis.count; ++y, dst += n) {
    const uint8_t* rows = src + n * static_cast<size_t>(axis.first[y] - first_row);
    const int32_t* weights = axis.weights.data() + size_t{2} * axis.pair_begin[y];
    const auto column = [&](size_t i) HWY_ATTR {
      return resize_column(rows + i, n, weights, axis.taps[y], static_cast<int>(lanes));
    };
    if (n < lanes) {
      hn::Store(resize_column(rows, n, weights, axis.taps[y], static_cast<int>(n)), d8, few);
      std::memcpy(dst, few, n);
      continue;
    }
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) hn::StoreU(column(i), d8, dst + i);
    if (i < n) hn::StoreU(column(n - lanes), d8, dst + n - lanes);  // overlaps what is there already
  }
}

/// Both passes, over the source rows that the result needs.
void resize_window(const ResizePlan& plan, uint8_t* dst) {
  const int first_row = plan.vertical.first.front(), rows = plan.vertical.last_row + 1 - first_row;
  const size_t source_stride = size_t{3} * plan.source_width, stride = size_t{3} * plan.horizontal.count;
  const uint8_t* const src = plan.source + source_stride * static_cast<size_t>(first_row);
  if (plan.vertical_first) {
    const auto between = std::make_unique_for_overwrite<uint8_t[]>(source_stride * plan.vertical.count);
    resize_columns(src, first_row, plan.vertical, source_stride, between.get());
    resize_rows(between.get(), plan.vertical.count, plan.source_width, plan.horizontal, dst);
  } else {
    const auto between = std::make_unique_for_overwrite<uint8_t[]>(stride * static_cast<size_t>(rows));
    resize_rows(src, rows, plan.source_width, plan.horizontal, between.get());
    resize_columns(between.get(), first_row, plan.vertical, stride, dst);
  }
}

}  // namespace
}  // namespace cairn::data::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::data {
namespace {

HWY_EXPORT(resize_window);

void run(const uint8_t* src, int sw, int sh, const AxisWindow& x, const AxisWindow& y, uint8_t* dst) {
  const bool vertical_first = y.size < sh && 2 * (int64_t{sw} - x.size) < int64_t{sh} - y.size;
  const ResizePlan plan{src, sw, vertical_first, horizontal_axis(sw, x), vertical_axis(sh, y)};
  HWY_DYNAMIC_DISPATCH(resize_window)(plan, dst);
}

/// Python's round() and int(): the sizes must be torchvision's and Pillow's.
int round_half_even(double value) { return static_cast<int>(std::nearbyint(value)); }

}  // namespace

void resize_bilinear(const uint8_t* src, int sw, int sh, float box_x0, float box_y0, float box_x1,
                     float box_y1, uint8_t* dst, int dw, int dh) {
  const bool sizes = sw > 0 && sh > 0 && dw > 0 && dh > 0;
  const bool box = box_x0 >= 0 && box_y0 >= 0 && box_x0 < box_x1 && box_y0 < box_y1 &&
                   box_x1 <= static_cast<float>(sw) && box_y1 <= static_cast<float>(sh);
  if (!sizes || !box) {
    throw Error("[resize_bilinear] cannot resize box (" + std::to_string(box_x0) + ", " +
                std::to_string(box_y0) + ", " + std::to_string(box_x1) + ", " + std::to_string(box_y1) +
                ") of " + std::to_string(sw) + " x " + std::to_string(sh) + " pixels to " +
                std::to_string(dw) + " x " + std::to_string(dh));
  }
  run(src, sw, sh, {box_x0, box_x1, dw, 0, dw}, {box_y0, box_y1, dh, 0, dh}, dst);
}

void resize_image(const Image& image, ResizeMode mode, int size, uint8_t* dst) {
  const int sw = image.width, sh = image.height;
  if (sw <= 0 || sh <= 0 || size <= 0) throw Error("[resize_image] an image or a size without pixels");
  const auto w = static_cast<float>(sw), h = static_cast<float>(sh);
  const uint8_t* src = image.rgb.data();
  if (mode == ResizeMode::stretch) {
    run(src, sw, sh, {0, w, size, 0, size}, {0, h, size, 0, size}, dst);
  } else if (mode == ResizeMode::crop) {
    const int64_t shorter = std::min(sw, sh);
    const auto dw = static_cast<int>(int64_t{size} * sw / shorter),
               dh = static_cast<int>(int64_t{size} * sh / shorter);
    const int left = round_half_even((dw - size) / 2.0), top = round_half_even((dh - size) / 2.0);
    run(src, sw, sh, {0, w, dw, left, size}, {0, h, dh, top, size}, dst);
  } else {
    int dw = size, dh = size;
    if (sw > sh) dh = std::max(1, round_half_even(static_cast<double>(sh) / sw * size));
    if (sw < sh) dw = std::max(1, round_half_even(static_cast<double>(sw) / sh * size));
    std::vector<uint8_t> inner(size_t{3} * dw * dh);
    run(src, sw, sh, {0, w, dw, 0, dw}, {0, h, dh, 0, dh}, inner.data());
    const int left = round_half_even((size - dw) * 0.5), top = round_half_even((size - dh) * 0.5);
    std::memset(dst, 255, size_t{3} * size * size);
    for (int y = 0; y < dh; ++y) {
      std::memcpy(dst + 3 * (int64_t{size} * (top + y) + left), inner.data() + size_t{3} * dw * y,
                  size_t{3} * dw);
    }
  }
}

}  // namespace cairn::data
#endif
