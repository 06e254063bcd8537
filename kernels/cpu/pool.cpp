#include "kernels/pool.h"

#include <algorithm>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pool.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

// Pooling over NHWC, vectors along the channels. Every kernel gathers: a thread owns rows of what it writes
// and reads what that needs, so that nothing is written twice or by two threads. A window is cut to the image
// once a pixel, not once an element; a window of 3x3 or 2x2 that lies wholly inside is unrolled.

#ifndef CAIRN_KERNELS_CPU_POOL_SHARED
#define CAIRN_KERNELS_CPU_POOL_SHARED
namespace cairn::kernels {
namespace {

constexpr std::int64_t kGrain = 1 << 14;  // elements worth a thread
std::int64_t rows_grain(const Shape& s) {
  return (kGrain + s[2] * s[3] - 1) / std::max<std::int64_t>(s[2] * s[3], 1);
}

struct Range {
  std::int64_t begin, end;
};
/// Places [begin, end) of a window along one axis that fall inside the image, for output `o`.
Range window_inside(std::int64_t o, int kernel, int stride, int padding, std::int64_t length) {
  const std::int64_t first = o * stride - padding;
  return {std::max<std::int64_t>(-first, 0), std::min<std::int64_t>(kernel, length - first)};
}
/// Outputs whose window holds input `i`.
Range outputs_of(std::int64_t i, int kernel, int stride, int padding, std::int64_t outputs) {
  const std::int64_t last = (i + padding) / stride, lowest = i + padding - kernel + 1;
  return {lowest <= 0 ? 0 : (lowest + stride - 1) / stride, std::min(last + 1, outputs)};
}

}  // namespace
}  // namespace cairn::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

/// The bits of compute lanes, for the place of a window's winner.
template <class D>
using Bits = hn::RebindToUnsigned<D>;
template <class D>
using Bytes = hn::Rebind<std::uint8_t, D>;

template <class D, class V>
HWY_INLINE void store_place(D, V place, std::uint8_t* out, Whole) {
  hn::StoreU(hn::TruncateTo(Bytes<D>(), place), Bytes<D>(), out);
}
template <class D, class V>
HWY_INLINE void store_place(D d, V place, std::uint8_t* out, Tail tail) {
  HWY_ALIGN std::uint8_t buffer[HWY_MAX_BYTES];
  store_place(d, place, buffer, Whole());
  std::memcpy(out, buffer, static_cast<std::size_t>(tail.n));
}
template <class D>
HWY_INLINE hn::Vec<Bits<D>> load_place(D, const std::uint8_t* p, Whole) {
  const auto bytes = hn::LoadU(Bytes<D>(), p);
  if constexpr (sizeof(hn::TFromD<D>) == 8)
    return hn::PromoteTo(Bits<D>(), hn::PromoteTo(hn::Rebind<std::uint32_t, D>(), bytes));
  else
    return hn::PromoteTo(Bits<D>(), bytes);
}
template <class D>
HWY_INLINE hn::Vec<Bits<D>> load_place(D d, const std::uint8_t* p, Tail tail) {
  HWY_ALIGN std::uint8_t buffer[HWY_MAX_BYTES] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(tail.n));
  return load_place(d, buffer, Whole());
}

// ---- max ----

/// A window cut to the image: kernel places [r0, r1) x [s0, s1), `x` its (0, 0), which may lie outside.
template <class T>
struct Window {
  const T* x;
  std::int64_t r0, r1, s0, s1, row, column;  // row, column: strides in elements
  int kernel_w;
  bool relu;
};

/// v takes over from best where it is greater, or NaN.
template <class D>
HWY_INLINE hn::Mask<D> wins(D, hn::Vec<D> v, hn::Vec<D> best) {
  return hn::Or(hn::Gt(v, best), hn::IsNaN(v));
}

/// kFixed > 0: a whole window of that many rows and columns.
template <class T, int kFixed, bool kIndex>
HWY_INLINE void max_of_window(const Window<T>& w, T* y, std::uint8_t* index, std::int64_t channels) {
  const Tag<T> d;
  using Word = hn::TFromD<Bits<Tag<T>>>;
  const Bits<Tag<T>> bits;
  const std::int64_t r0 = kFixed ? 0 : w.r0, r1 = kFixed ? kFixed : w.r1;
  const std::int64_t s0 = kFixed ? 0 : w.s0, s1 = kFixed ? kFixed : w.s1;
  const std::int64_t kernel_w = kFixed ? kFixed : w.kernel_w;
  for_each_vector(d, 0, channels, [&](std::int64_t c, auto part) HWY_ATTR {
    const T* p = w.x + c;
    auto best = load(d, p + r0 * w.row + s0 * w.column, part);
    auto place = hn::Set(bits, static_cast<Word>(r0 * kernel_w + s0));
    for (std::int64_t r = r0; r < r1; ++r) {
      for (std::int64_t s = s0; s < s1; ++s) {
        const auto v = load(d, p + r * w.row + s * w.column, part);
        const auto better = wins(d, v, best);
        best = hn::IfThenElse(better, v, best);
        if constexpr (kIndex)
          place = hn::IfThenElse(hn::RebindMask(bits, better),
                                 hn::Set(bits, static_cast<Word>(r * kernel_w + s)), place);
      }
    }
    if (w.relu) {
      if constexpr (kIndex)
        place = hn::IfThenElse(hn::RebindMask(bits, hn::Gt(best, hn::Zero(d))), place,
                               hn::Set(bits, static_cast<Word>(kNoWinner)));
      best = hn::IfThenZeroElse(hn::Lt(best, hn::Zero(d)), best);  // a NaN stays
    }
    store(d, best, y + c, part);
    if constexpr (kIndex) store_place(d, place, index + c, part);
  });
}

template <class T, bool kIndex>
HWY_NOINLINE void max_row(const MaxPool2dForward& a, std::int64_t row) {
  const Shape &x = a.x.shape, &y = a.y.shape;
  const Pool2dGeometry& g = a.geometry;
  const std::int64_t channels = x[3], n = row / y[1], p = row % y[1];
  const Range r = window_inside(p, g.kernel_h, g.stride_h, g.padding_h, x[1]);
  const std::int64_t top = (n * x[1] + p * g.stride_h - g.padding_h) * x[2];
  for (std::int64_t q = 0; q < y[2]; ++q) {
    const Range s = window_inside(q, g.kernel_w, g.stride_w, g.padding_w, x[2]);
    const std::int64_t corner = top + q * g.stride_w - g.padding_w;
    const Window<T> w{a.x.as<T>() + corner * channels,
                      r.begin,
                      r.end,
                      s.begin,
                      s.end,
                      x[2] * channels,
                      channels,
                      g.kernel_w,
                      a.activation == Activation::relu};
    T* out = a.y.as<T>() + (row * y[2] + q) * channels;
    std::uint8_t* index = kIndex ? a.index.as<std::uint8_t>() + (row * y[2] + q) * channels : nullptr;
    const bool square =
        r.begin == 0 && s.begin == 0 && r.end == s.end && r.end == g.kernel_h && s.end == g.kernel_w;
    if (square && r.end == 3)
      max_of_window<T, 3, kIndex>(w, out, index, channels);
    else if (square && r.end == 2)
      max_of_window<T, 2, kIndex>(w, out, index, channels);
    else
      max_of_window<T, 0, kIndex>(w, out, index, channels);
  }
}

template <class T>
void max_forward(const MaxPool2dForward& a) {
  const Shape& y = a.y.shape;
  parallel_for(y[0] * y[1], rows_grain(y), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      if (a.index)
        max_row<T, true>(a, row);
      else
        max_row<T, false>(a, row);
    }
  });
}

template <class T>
HWY_NOINLINE void max_backward_row(const MaxPool2dBackward& a, std::int64_t row) {
  const Shape &x = a.dx.shape, &y = a.dy.shape;
  const Pool2dGeometry& g = a.geometry;
  const Tag<T> d;
  using Word = hn::TFromD<Bits<Tag<T>>>;
  const Bits<Tag<T>> bits;
  const std::int64_t channels = x[3], n = row / x[1], h = row % x[1];
  const bool add = a.write == Write::add;
  const Range p = outputs_of(h, g.kernel_h, g.stride_h, g.padding_h, y[1]);
  for (std::int64_t w = 0; w < x[2]; ++w) {
    const Range q = outputs_of(w, g.kernel_w, g.stride_w, g.padding_w, y[2]);
    T* out = a.dx.as<T>() + (row * x[2] + w) * channels;
    for_each_vector(d, 0, channels, [&](std::int64_t c, auto part) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (std::int64_t i = p.begin; i < p.end; ++i) {
        const std::int64_t r = h + g.padding_h - i * g.stride_h;
        for (std::int64_t j = q.begin; j < q.end; ++j) {
          const std::int64_t s = w + g.padding_w - j * g.stride_w;
          const std::int64_t at = ((n * y[1] + i) * y[2] + j) * channels + c;
          const auto place = load_place(d, a.index.as<std::uint8_t>() + at, part);
          const auto here = hn::Eq(place, hn::Set(bits, static_cast<Word>(r * g.kernel_w + s)));
          sum = hn::Add(sum, hn::IfThenElseZero(hn::RebindMask(d, here), load(d, a.dy.as<T>() + at, part)));
        }
      }
      if (add) sum = hn::Add(sum, load(d, out + c, part));
      store(d, sum, out + c, part);
    });
  }
}

template <class T>
void max_backward(const MaxPool2dBackward& a) {
  const Shape& x = a.dx.shape;
  parallel_for(x[0] * x[1], rows_grain(x), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) max_backward_row<T>(a, row);
  });
}

// ---- average ----

/// 1 / what a window's sum is divided by.
template <class C>
C window_weight(const Pool2dGeometry& g, bool count_include_pad, const Range& r, const Range& s) {
  const std::int64_t count =
      count_include_pad ? std::int64_t{g.kernel_h} * g.kernel_w : (r.end - r.begin) * (s.end - s.begin);
  return C(1) / static_cast<C>(count);
}

template <class T>
HWY_NOINLINE void avg_row(const AvgPool2dForward& a, std::int64_t row) {
  const Shape &x = a.x.shape, &y = a.y.shape;
  const Pool2dGeometry& g = a.geometry;
  const Tag<T> d;
  const std::int64_t channels = x[3], n = row / y[1], p = row % y[1];
  const Range r = window_inside(p, g.kernel_h, g.stride_h, g.padding_h, x[1]);
  for (std::int64_t q = 0; q < y[2]; ++q) {
    const Range s = window_inside(q, g.kernel_w, g.stride_w, g.padding_w, x[2]);
    const auto weight = hn::Set(d, window_weight<ComputeOf<T>>(g, a.count_include_pad, r, s));
    const std::int64_t corner =
        (n * x[1] + p * g.stride_h - g.padding_h) * x[2] + q * g.stride_w - g.padding_w;
    const T* in = a.x.as<T>() + corner * channels;
    T* out = a.y.as<T>() + (row * y[2] + q) * channels;
    for_each_vector(d, 0, channels, [&](std::int64_t c, auto part) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (std::int64_t i = r.begin; i < r.end; ++i)
        for (std::int64_t j = s.begin; j < s.end; ++j)
          sum = hn::Add(sum, load(d, in + (i * x[2] + j) * channels + c, part));
      store(d, hn::Mul(sum, weight), out + c, part);
    });
  }
}

template <class T>
void avg_forward(const AvgPool2dForward& a) {
  const Shape& y = a.y.shape;
  parallel_for(y[0] * y[1], rows_grain(y), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) avg_row<T>(a, row);
  });
}

template <class T>
HWY_NOINLINE void avg_backward_row(const AvgPool2dBackward& a, std::int64_t row) {
  const Shape &x = a.dx.shape, &y = a.dy.shape;
  const Pool2dGeometry& g = a.geometry;
  const Tag<T> d;
  const std::int64_t channels = x[3], n = row / x[1], h = row % x[1];
  const bool add = a.write == Write::add;
  const Range p = outputs_of(h, g.kernel_h, g.stride_h, g.padding_h, y[1]);
  for (std::int64_t w = 0; w < x[2]; ++w) {
    const Range q = outputs_of(w, g.kernel_w, g.stride_w, g.padding_w, y[2]);
    T* out = a.dx.as<T>() + (row * x[2] + w) * channels;
    for_each_vector(d, 0, channels, [&](std::int64_t c, auto part) HWY_ATTR {
      auto sum = hn::Zero(d);
      for (std::int64_t i = p.begin; i < p.end; ++i) {
        const Range r = window_inside(i, g.kernel_h, g.stride_h, g.padding_h, x[1]);
        for (std::int64_t j = q.begin; j < q.end; ++j) {
          const Range s = window_inside(j, g.kernel_w, g.stride_w, g.padding_w, x[2]);
          const auto weight = hn::Set(d, window_weight<ComputeOf<T>>(g, a.count_include_pad, r, s));
          const T* dy = a.dy.as<T>() + ((n * y[1] + i) * y[2] + j) * channels;
          sum = hn::MulAdd(load(d, dy + c, part), weight, sum);
        }
      }
      if (add) sum = hn::Add(sum, load(d, out + c, part));
      store(d, sum, out + c, part);
    });
  }
}

template <class T>
void avg_backward(const AvgPool2dBackward& a) {
  const Shape& x = a.dx.shape;
  parallel_for(x[0] * x[1], rows_grain(x), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) avg_backward_row<T>(a, row);
  });
}

// ---- global average ----

/// Pixels are summed in blocks, then the blocks, so that the error grows with neither alone.
constexpr std::int64_t kBlock = 64;

template <class T>
HWY_NOINLINE void global_mean(const T* x, T* y, std::int64_t pixels, std::int64_t channels, Range range) {
  const Tag<T> d;
  const auto weight = hn::Set(d, ComputeOf<T>(1) / static_cast<ComputeOf<T>>(pixels));
  for_each_vector(d, range.begin, range.end, [&](std::int64_t c, auto part) HWY_ATTR {
    auto total = hn::Zero(d);
    for (std::int64_t begin = 0; begin < pixels; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, pixels);
      auto even = hn::Zero(d), odd = hn::Zero(d);
      std::int64_t i = begin;
      for (; i + 2 <= end; i += 2) {
        even = hn::Add(even, load(d, x + i * channels + c, part));
        odd = hn::Add(odd, load(d, x + (i + 1) * channels + c, part));
      }
      if (i < end) even = hn::Add(even, load(d, x + i * channels + c, part));
      total = hn::Add(total, hn::Add(even, odd));
    }
    store(d, hn::Mul(total, weight), y + c, part);
  });
}

template <class T>
void global_forward(const GlobalAvgPoolForward& a) {
  constexpr std::int64_t kChannels = 64;  // a task: a strip of an image, so that one image feeds all threads
  const std::int64_t channels = a.x.shape[3], pixels = a.x.shape[1] * a.x.shape[2];
  const std::int64_t strips = (channels + kChannels - 1) / kChannels;
  const std::int64_t grain = (kGrain + pixels * kChannels - 1) / (pixels * kChannels);
  parallel_for(a.x.shape[0] * strips, grain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t n = i / strips, first = i % strips * kChannels;
      global_mean(a.x.as<T>() + n * pixels * channels, a.y.as<T>() + n * channels, pixels, channels,
                  {first, std::min(first + kChannels, channels)});
    }
  });
}

template <class T>
HWY_NOINLINE void global_spread(const T* dy, T* dx, std::int64_t channels, ComputeOf<T> weight, bool add) {
  const Tag<T> d;
  for_each_vector(d, 0, channels, [&](std::int64_t c, auto part) HWY_ATTR {
    auto v = hn::Mul(load(d, dy + c, part), hn::Set(d, weight));
    if (add) v = hn::Add(v, load(d, dx + c, part));
    store(d, v, dx + c, part);
  });
}

template <class T>
void global_backward(const GlobalAvgPoolBackward& a) {
  const std::int64_t channels = a.dx.shape[3], pixels = a.dx.shape[1] * a.dx.shape[2];
  const auto weight = ComputeOf<T>(1) / static_cast<ComputeOf<T>>(pixels);
  parallel_for(a.dx.shape[0] * pixels, (kGrain + channels - 1) / channels,
               [&](std::int64_t begin, std::int64_t end, int) {
                 for (std::int64_t i = begin; i < end; ++i)
                   global_spread(a.dy.as<T>() + i / pixels * channels, a.dx.as<T>() + i * channels, channels,
                                 weight, a.write == Write::add);
               });
}

Status max_pool2d_forward_cpu(const Queue&, const MaxPool2dForward& a) {
  if (a.y.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { max_forward<typename decltype(t)::type>(a); });
  return {};
}
Status max_pool2d_backward_cpu(const Queue&, const MaxPool2dBackward& a) {
  if (a.dx.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { max_backward<typename decltype(t)::type>(a); });
  return {};
}
Status avg_pool2d_forward_cpu(const Queue&, const AvgPool2dForward& a) {
  if (a.y.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { avg_forward<typename decltype(t)::type>(a); });
  return {};
}
Status avg_pool2d_backward_cpu(const Queue&, const AvgPool2dBackward& a) {
  if (a.dx.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { avg_backward<typename decltype(t)::type>(a); });
  return {};
}
Status global_avg_pool_forward_cpu(const Queue&, const GlobalAvgPoolForward& a) {
  if (a.y.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { global_forward<typename decltype(t)::type>(a); });
  return {};
}
Status global_avg_pool_backward_cpu(const Queue&, const GlobalAvgPoolBackward& a) {
  if (a.dx.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { global_backward<typename decltype(t)::type>(a); });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
CAIRN_CPU_SIMD_FILL(max_pool2d_forward, max_pool2d_forward_cpu);
CAIRN_CPU_SIMD_FILL(max_pool2d_backward, max_pool2d_backward_cpu);
CAIRN_CPU_SIMD_FILL(avg_pool2d_forward, avg_pool2d_forward_cpu);
CAIRN_CPU_SIMD_FILL(avg_pool2d_backward, avg_pool2d_backward_cpu);
CAIRN_CPU_SIMD_FILL(global_avg_pool_forward, global_avg_pool_forward_cpu);
CAIRN_CPU_SIMD_FILL(global_avg_pool_backward, global_avg_pool_backward_cpu);
}  // namespace
}  // namespace cairn::kernels
#endif
