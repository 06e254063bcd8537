// Copies, conversions and fills of kernels/pointwise.h: no arithmetic, so no vectors but the compiler's.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/axes.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/pointwise.h"
#include "kernels/storage_type.h"

namespace cairn::kernels {
namespace {

template <class F>
decltype(auto) with_any_type(DType t, F&& f) {
  return with_storage_type<BFloat16, Float16>(t, f);
}
template <class F>
void with_floating_type(DType t, F&& f) {
  with_any_type(t, [&]<class T>(TypeTag<T> tag) {
    if constexpr (!std::is_integral_v<T>) f(tag);
  });
}

// double to float such that a second rounding to fewer bits gives what one rounding would (round to odd:
// Boldo and Melquiond 2008).
float round_to_odd(double v) {
  const auto f = static_cast<float>(v);
  auto bits = std::bit_cast<std::uint32_t>(f);
  const auto back = static_cast<double>(f);
  if (v == back || std::isnan(v) || (bits & 1u)) return f;
  bits += std::abs(back) < std::abs(v) ? 1u : ~0u;
  return std::bit_cast<float>(bits);
}

template <class Y, class X>
Y convert(X v) {
  if constexpr (std::is_same_v<Y, X>) {
    return v;
  } else if constexpr (std::is_same_v<X, double> && sizeof(Y) == 2) {
    return Y(round_to_odd(v));
  } else if constexpr (std::is_same_v<Y, double> || std::is_same_v<X, double>) {
    return static_cast<Y>(static_cast<std::conditional_t<std::is_same_v<X, double>, double, float>>(v));
  } else {
    return static_cast<Y>(static_cast<float>(v));
  }
}

// y + v in y's type: 16-bit types through float, integers wrap.
template <class T>
T sum(T y, T v) {
  if constexpr (std::is_integral_v<T> || std::is_same_v<T, double>)
    return static_cast<T>(y + v);
  else
    return static_cast<T>(static_cast<float>(y) + static_cast<float>(v));
}

template <class Y, class X>
void cast_of(const Cast& args) {
  parallel_elements(args.y.numel(), [&](std::int64_t begin, std::int64_t end, int) {
    const X* x = args.x.as<X>();
    Y* y = args.y.as<Y>();
    if (args.write == Write::assign)
      for (std::int64_t i = begin; i < end; ++i) y[i] = convert<Y>(x[i]);
    else  // added in the wider of the types, rounded once
      for (std::int64_t i = begin; i < end; ++i) {
        using Sum = std::conditional_t<std::is_same_v<X, double> || std::is_same_v<Y, double>, double, float>;
        y[i] = convert<Y>(convert<Sum>(y[i]) + convert<Sum>(x[i]));
      }
  });
}

Status cast_cpu(const Queue&, const Cast& args) {
  with_floating_type(args.y.dtype, [&]<class Y>(TypeTag<Y>) {
    with_floating_type(args.x.dtype, [&]<class X>(TypeTag<X>) { cast_of<Y, X>(args); });
  });
  return {};
}

Status fill_value_cpu(const Queue&, const FillValue& args) {
  with_any_type(args.y.dtype, [&]<class T>(TypeTag<T>) {
    T value;
    if constexpr (std::is_integral_v<T>)
      value = static_cast<T>(args.value);
    else
      value = convert<T>(args.value);
    parallel_elements(args.y.numel(), [&](std::int64_t begin, std::int64_t end, int) {
      std::fill(args.y.as<T>() + begin, args.y.as<T>() + end, value);
    });
  });
  return {};
}

template <class T>
void land_element(T& y, T x, Write write) {
  y = write == Write::add ? sum(y, x) : x;
}

template <class T>
void copy_row(const T* x, T* y, const CopyAxis& axis, Write write) {
  if (axis.step_x == 1 && axis.step_y == 1 && write == Write::assign) {
    std::memcpy(static_cast<void*>(y), x, static_cast<std::size_t>(axis.length) * sizeof(T));
    return;
  }
  for (std::int64_t i = 0; i < axis.length; ++i) land_element(y[i * axis.step_y], x[i * axis.step_x], write);
}

// Where x's dense axis (outer) is not y's (inner): turned round in a buffer that the first cache holds, so
// that each line of x and y is touched once, however far apart their rows are.
constexpr std::int64_t kTileOuter = 32, kTileInner = 64;
template <class T>
void copy_tile(const T* x, T* y, const CopyAxis& outer, const CopyAxis& inner, Write write) {
  T tile[kTileOuter][kTileInner];
  for (std::int64_t j = 0; j < inner.length; ++j)
    for (std::int64_t i = 0; i < outer.length; ++i) tile[i][j] = x[i * outer.step_x + j * inner.step_x];
  for (std::int64_t i = 0; i < outer.length; ++i)
    copy_row(tile[i], y + i * outer.step_y, {inner.length, 1, inner.step_y}, write);
}

template <class T>
void strided_copy_of(const StridedCopy& args) {
  CopyAxes axes = copy_axes(args);
  const CopyAxis inner = axes.axis[--axes.count];
  // The axis along which x is dense, if it is another than y's: tiled against the inner one.
  int dense = -1;
  if (std::abs(inner.step_x) > 1)
    for (int i = 0; i < axes.count; ++i)
      if (axes.axis[i].step_x == 1) dense = i;
  const CopyAxis tiled = dense < 0 ? CopyAxis{1, 0, 0} : axes.axis[dense];
  if (dense >= 0) axes.axis[dense].length = 1;
  std::int64_t boxes = 1;
  for (int i = 0; i < axes.count; ++i) boxes *= axes.axis[i].length;
  const std::int64_t tiles_outer = (tiled.length + kTileOuter - 1) / kTileOuter;
  // Without a transpose a "tile" is a piece of the row, long enough to be worth a call.
  const std::int64_t piece = dense < 0 ? 1 << 14 : kTileInner;
  const std::int64_t tiles_inner = (inner.length + piece - 1) / piece;
  const std::int64_t tile_elements = std::min(piece, inner.length) * std::min(kTileOuter, tiled.length);
  const T* x = args.x.as<T>() + args.offset_x;
  T* y = args.y.as<T>() + args.offset_y;
  parallel_for(boxes * tiles_outer * tiles_inner, std::max<std::int64_t>(1, 16384 / tile_elements),
               [&](std::int64_t begin, std::int64_t end, int) {
                 for (std::int64_t t = begin; t < end; ++t) {
                   const std::int64_t j = t % tiles_inner * piece;
                   const std::int64_t i = t / tiles_inner % tiles_outer * kTileOuter;
                   std::int64_t box = t / tiles_inner / tiles_outer;
                   std::int64_t at_x = j * inner.step_x + i * tiled.step_x;
                   std::int64_t at_y = j * inner.step_y + i * tiled.step_y;
                   for (int k = axes.count - 1; k >= 0; --k) {
                     at_x += box % axes.axis[k].length * axes.axis[k].step_x;
                     at_y += box % axes.axis[k].length * axes.axis[k].step_y;
                     box /= axes.axis[k].length;
                   }
                   const CopyAxis part{std::min(piece, inner.length - j), inner.step_x, inner.step_y};
                   if (dense < 0)
                     copy_row(x + at_x, y + at_y, part, args.write);
                   else
                     copy_tile(x + at_x, y + at_y,
                               {std::min(kTileOuter, tiled.length - i), tiled.step_x, tiled.step_y}, part,
                               args.write);
                 }
               });
}

Status strided_copy_cpu(const Queue&, const StridedCopy& args) {
  if (args.shape.numel() == 0) return {};
  with_any_type(args.y.dtype, [&]<class T>(TypeTag<T>) { strided_copy_of<T>(args); });
  return {};
}

// Doubles too are moved and converted in the product: this file is not compiled a second time.
constexpr std::initializer_list<DType> kFloating = {DType::f32, DType::f64, DType::bf16, DType::f16};
constexpr std::initializer_list<DType> kAll = {DType::f32, DType::f64, DType::bf16, DType::f16,
                                               DType::u8,  DType::i32, DType::i64};
const FillCpu kCast{cast, &cast_cpu, nullptr, kFloating};
const FillCpu kFillValue{fill_value, &fill_value_cpu, nullptr, kAll};
const FillCpu kStridedCopy{strided_copy, &strided_copy_cpu, nullptr, kAll};

}  // namespace
}  // namespace cairn::kernels
