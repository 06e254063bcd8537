// Copies, conversions and fills of kernels/pointwise.h, of every dtype.
// Bytes: x once and y once (with Write::add y once more), a fill y alone. Limited by memory. Where x is dense
// along another axis than y, 32x32 tiles are turned round in shared memory, so that both sides move whole
// sectors.
#include <cmath>
#include <cstring>

#include "kernels/axes.h"
#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"
#include "kernels/pointwise.h"
#include "kernels/storage_type.h"

namespace cairn::kernels {
namespace {

template <class F>
decltype(auto) with_any_type(DType t, F&& f) {
  return with_storage_type<__nv_bfloat16, __half>(t, f);
}
template <class F>
Status with_floating_type(DType t, F&& f) {
  return with_any_type(t, [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (std::is_integral_v<T>)
      return {};
    else
      return f(tag);
  });
}

// One rounding, to nearest even.
template <class Y, class X>
__host__ __device__ __forceinline__ Y convert(X v) {
  if constexpr (std::is_same_v<Y, X>) {
    return v;
  } else if constexpr (std::is_same_v<X, double> && std::is_same_v<Y, __nv_bfloat16>) {
    return __double2bfloat16(v);
  } else if constexpr (std::is_same_v<X, double> && std::is_same_v<Y, __half>) {
    return __double2half(v);
  } else if constexpr (std::is_same_v<X, double>) {
    return static_cast<Y>(v);
  } else if constexpr (std::is_same_v<Y, double>) {
    return static_cast<double>(to_float(v));
  } else {
    return from_float<Y>(to_float(v));
  }
}

// y + v in y's type: 16-bit types through float, integers wrap.
template <class T>
__device__ __forceinline__ T sum(T y, T v) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(y + v);
  else
    return from_float<T>(to_float(y) + to_float(v));
}

template <class Y, class X>
struct CastOf {
  const X* x;  // [n]
  Y* y;        // [n]
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Pack<kWidth, X> from = load_pack<kWidth>(x + i);
    Pack<kWidth, Y> to;
    if (write == Write::add) {  // added in the wider of the types, rounded once
      using Wide = std::conditional_t<std::is_same_v<X, double> || std::is_same_v<Y, double>, double, float>;
      to = load_pack<kWidth>(static_cast<const Y*>(y + i));
#pragma unroll
      for (int k = 0; k < kWidth; ++k)
        to.v[k] = convert<Y>(convert<Wide>(to.v[k]) + convert<Wide>(from.v[k]));
    } else {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) to.v[k] = convert<Y>(from.v[k]);
    }
    store_pack(y + i, to);
  }
};

Status cast_cuda(const Queue& q, const Cast& args) {
  return with_floating_type(args.y.dtype, [&]<class Y>(TypeTag<Y>) {
    return with_floating_type(args.x.dtype, [&]<class X>(TypeTag<X>) {
      // The wider side moves 16 bytes, the other as many elements.
      constexpr int kWidth = 16 / static_cast<int>(sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y));
      return launch_elementwise<kWidth>(stream_of(q), args.y.numel(), aligned_16({args.x.data, args.y.data}),
                                        CastOf<Y, X>{args.x.as<X>(), args.y.as<Y>(), args.write});
    });
  });
}

template <class Word>
struct FillOf {
  Word* y;  // [n]
  Word value;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    Pack<kWidth, Word> pack;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) pack.v[k] = value;
    store_pack(y + i, pack);
  }
};

template <class T>
T filled_with(double value) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(value);
  else
    return convert<T>(value);
}

Status fill_value_cuda(const Queue& q, const FillValue& args) {
  return with_any_type(args.y.dtype, [&]<class T>(TypeTag<T>) {
    return launch_elementwise<16 / static_cast<int>(sizeof(T))>(
        stream_of(q), args.y.numel(), aligned_16({args.y.data}),
        FillOf<T>{args.y.as<T>(), filled_with<T>(args.value)});
  });
}

// y[at_y(i)] = x[at_x(i)] for i over the box, y's densest axis innermost. A group of elements lies in one
// row.
template <class T>
struct StridedCopyOf {
  const T* x;
  T* y;
  Write write;
  CopyAxes axes;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    int64_t at_x = 0, at_y = 0, rest = i;
#pragma unroll
    for (int k = kMaxRank - 1; k >= 0; --k) {
      if (k >= axes.count) continue;
      const int64_t next = rest / axes.axis[k].length, index = rest - next * axes.axis[k].length;
      at_x += index * axes.axis[k].step_x;
      at_y += index * axes.axis[k].step_y;
      rest = next;
    }
    Pack<kWidth, T> pack = load_pack<kWidth>(x + at_x);
    if (write == Write::add) {
      const Pack<kWidth, T> old = load_pack<kWidth>(static_cast<const T*>(y + at_y));
#pragma unroll
      for (int k = 0; k < kWidth; ++k) pack.v[k] = sum(old.v[k], pack.v[k]);
    }
    store_pack(y + at_y, pack);
  }
};

constexpr int kTile = 32;
constexpr int kTileRows = 8;  // rows of threads: each moves four elements of a tile
// A row of an odd number of 4-byte words (or of 8-byte ones): its columns lie in different banks.
template <class T>
inline constexpr int kTilePad = sizeof(T) < 4 ? 4 / static_cast<int>(sizeof(T)) : 1;

// Where x is dense along `outer` and y along `inner`: blocks walk over the tiles of outer x inner of each box
// of the other axes.
template <class T>
__global__ void __launch_bounds__(kTile* kTileRows)
    transpose_kernel(const T* x, T* y, CopyAxes boxes, CopyAxis outer, CopyAxis inner, int64_t tiles,
                     Write write) {
  using Word = typename WordOf<sizeof(T)>::Type;  // 16-bit types as bits: __half has a constructor
  __shared__ Word tile[kTile][kTile + kTilePad<T>];
  const int64_t tiles_inner = (inner.length + kTile - 1) / kTile,
                tiles_outer = (outer.length + kTile - 1) / kTile;
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const int64_t j0 = t % tiles_inner * kTile, i0 = t / tiles_inner % tiles_outer * kTile;
    int64_t box = t / tiles_inner / tiles_outer, at_x = 0, at_y = 0;
#pragma unroll
    for (int k = kMaxRank - 1; k >= 0; --k) {
      if (k >= boxes.count) continue;
      const int64_t next = box / boxes.axis[k].length, index = box - next * boxes.axis[k].length;
      at_x += index * boxes.axis[k].step_x;
      at_y += index * boxes.axis[k].step_y;
      box = next;
    }
    for (int r = ty; r < kTile; r += kTileRows)  // lanes along outer, where x is dense
      if (j0 + r < inner.length && i0 + tx < outer.length)
        tile[r][tx] =
            *reinterpret_cast<const Word*>(x + at_x + (i0 + tx) * outer.step_x + (j0 + r) * inner.step_x);
    __syncthreads();
    for (int r = ty; r < kTile; r += kTileRows)  // lanes along inner, where y is
      if (i0 + r < outer.length && j0 + tx < inner.length) {
        T* to = y + at_y + (i0 + r) * outer.step_y + (j0 + tx) * inner.step_y;
        const T value = *reinterpret_cast<const T*>(&tile[tx][r]);
        *to = write == Write::add ? sum(*to, value) : value;
      }
    __syncthreads();
  }
}

template <class T>
Status strided_copy_of(cudaStream_t stream, const StridedCopy& args) {
  CopyAxes axes = copy_axes(args);
  const CopyAxis inner = axes.axis[axes.count - 1];
  const T* x = args.x.as<T>() + args.offset_x;
  T* y = args.y.as<T>() + args.offset_y;
  int dense = -1;
  if (std::abs(inner.step_x) > 1)
    for (int i = 0; i + 1 < axes.count; ++i)
      if (axes.axis[i].step_x == 1) dense = i;
  if (dense < 0) {
    constexpr int kWidth = 16 / static_cast<int>(sizeof(T));
    bool wide = aligned_16({x, y}) && inner.step_x == 1 && inner.step_y == 1;
    // Every row has whole groups, and starts at one. A single row may have a tail.
    if (axes.count > 1) wide = wide && inner.length % kWidth == 0;
    for (int i = 0; i + 1 < axes.count; ++i)
      wide = wide && axes.axis[i].step_x % kWidth == 0 && axes.axis[i].step_y % kWidth == 0;
    return launch_elementwise<kWidth>(stream, args.shape.numel(), wide,
                                      StridedCopyOf<T>{x, y, args.write, axes});
  }
  const CopyAxis outer = axes.axis[dense];
  CopyAxes boxes;
  int64_t tiles = ((outer.length + kTile - 1) / kTile) * ((inner.length + kTile - 1) / kTile);
  for (int i = 0; i + 1 < axes.count; ++i) {
    if (i == dense) continue;
    boxes.axis[boxes.count++] = axes.axis[i];
    tiles *= axes.axis[i].length;
  }
  return launch(transpose_kernel<T>, dim3(grid_for(tiles, 1)), dim3(kTile, kTileRows), 0, stream, x, y, boxes,
                outer, inner, tiles, args.write);
}

Status strided_copy_cuda(const Queue& q, const StridedCopy& args) {
  if (args.shape.numel() == 0) return {};
  return with_any_type(args.y.dtype,
                       [&]<class T>(TypeTag<T>) { return strided_copy_of<T>(stream_of(q), args); });
}

// Doubles too are moved and converted in the product: this file is not compiled a second time.
constexpr std::initializer_list<DType> kFloating = {DType::f32, DType::f64, DType::bf16, DType::f16};
constexpr std::initializer_list<DType> kAll = {DType::f32, DType::f64, DType::bf16, DType::f16,
                                               DType::u8,  DType::i32, DType::i64};
const FillCuda kCast{cast, &cast_cuda, nullptr, kFloating};
const FillCuda kFillValue{fill_value, &fill_value_cuda, nullptr, kAll};
const FillCuda kStridedCopy{strided_copy, &strided_copy_cuda, nullptr, kAll};

}  // namespace
}  // namespace cairn::kernels
