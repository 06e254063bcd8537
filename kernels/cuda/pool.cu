// Pooling over NHWC; kernels/pool.h has the equations and the rules for ties and NaN. Every kernel gathers: a
// thread owns what it writes and reads what that needs, so nothing is added by atomics and every run gives
// the same bits. Threads go along the channels, kWidth of them each where C is a multiple of it. Bytes:
// forward x once from memory (overlapping windows meet in the caches) and y once, with an index byte;
// backward dy and index once, dx once. Limited by memory.
#include "kernels/pool.h"

#include <algorithm>

#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

// A tensor [N,H,W,C] and where its element i lies.
struct Place {
  int64_t n;
  int h, w;
  int64_t c;
};
struct Extent {
  explicit Extent(const Shape& s) : h(static_cast<int>(s[1])), w(static_cast<int>(s[2])), c(s[3]) {}
  __device__ Place place(int64_t i) const {
    const int64_t pixel = divide(i, c), row = divide(pixel, w), n = divide(row, h);
    return {n, static_cast<int>(row - n * h), static_cast<int>(pixel - row * w), i - pixel * c};
  }
  __device__ int64_t offset(int64_t n, int64_t y, int64_t x, int64_t channel) const {
    return ((n * h + y) * w + x) * c + channel;
  }
  int h, w;
  int64_t c;
};

struct Range {
  int begin, end;
};
/// Places of a window along one axis that fall inside the image, for output `o`.
__device__ __forceinline__ Range window_inside(int o, int kernel, int stride, int padding, int length) {
  const int first = o * stride - padding;
  return {first < 0 ? -first : 0, min(kernel, length - first)};
}
/// Outputs whose window holds input `i`.
__device__ __forceinline__ Range outputs_of(int i, int kernel, int stride, int padding, int outputs) {
  const int lowest = i + padding - kernel + 1;
  return {lowest <= 0 ? 0 : (lowest + stride - 1) / stride, min((i + padding) / stride + 1, outputs)};
}

template <class T>
struct MaxForward {
  const T* x;
  T* y;
  uint8_t* index;  // or null
  Extent in, out;
  Pool2dGeometry g;
  bool relu;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Place at = out.place(i);
    const Range r = window_inside(at.h, g.kernel_h, g.stride_h, g.padding_h, in.h);
    const Range s = window_inside(at.w, g.kernel_w, g.stride_w, g.padding_w, in.w);
    const int64_t top = at.h * g.stride_h - g.padding_h, left = at.w * g.stride_w - g.padding_w;
    Values<kWidth, T> best = load_values<kWidth>(x + in.offset(at.n, top + r.begin, left + s.begin, at.c));
    Pack<kWidth, uint8_t> winner;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) winner.v[k] = static_cast<uint8_t>(r.begin * g.kernel_w + s.begin);
    for (int row = r.begin; row < r.end; ++row) {
      for (int column = s.begin; column < s.end; ++column) {
        const Values<kWidth, T> v = load_values<kWidth>(x + in.offset(at.n, top + row, left + column, at.c));
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          if (!(v.v[k] > best.v[k]) && v.v[k] == v.v[k]) continue;  // a NaN takes over
          best.v[k] = v.v[k];
          winner.v[k] = static_cast<uint8_t>(row * g.kernel_w + column);
        }
      }
    }
    if (relu) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        if (!(best.v[k] > 0)) winner.v[k] = kNoWinner;
        if (best.v[k] < 0) best.v[k] = 0;  // a NaN stays
      }
    }
    land_values(y + i, best, Write::assign);
    if (index) store_pack(index + i, winner);
  }
};

template <class T>
struct MaxBackward {
  const T* dy;
  const uint8_t* index;
  T* dx;
  Extent in, out;
  Pool2dGeometry g;
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Place at = in.place(i);
    const Range p = outputs_of(at.h, g.kernel_h, g.stride_h, g.padding_h, out.h);
    const Range q = outputs_of(at.w, g.kernel_w, g.stride_w, g.padding_w, out.w);
    Values<kWidth, T> sum{};
    for (int row = p.begin; row < p.end; ++row) {
      for (int column = q.begin; column < q.end; ++column) {
        const int64_t o = out.offset(at.n, row, column, at.c);
        const int mine =
            (at.h + g.padding_h - row * g.stride_h) * g.kernel_w + (at.w + g.padding_w - column * g.stride_w);
        const Pack<kWidth, uint8_t> winner = load_pack<kWidth>(index + o);
        const Values<kWidth, T> v = load_values<kWidth>(dy + o);
#pragma unroll
        for (int k = 0; k < kWidth; ++k)
          sum.v[k] += winner.v[k] == mine ? v.v[k] : Compute<T>(0);  // no branch, or dy is read in parts
      }
    }
    land_values(dx + i, sum, write);
  }
};

// By what a window's sum is divided.
__device__ __forceinline__ int window_size(const Pool2dGeometry& g, const Extent& in, int p, int q,
                                           bool all) {
  if (all) return g.kernel_h * g.kernel_w;
  const Range r = window_inside(p, g.kernel_h, g.stride_h, g.padding_h, in.h);
  const Range s = window_inside(q, g.kernel_w, g.stride_w, g.padding_w, in.w);
  return (r.end - r.begin) * (s.end - s.begin);
}

template <class T>
struct AvgForward {
  const T* x;
  T* y;
  Extent in, out;
  Pool2dGeometry g;
  bool count_include_pad;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Place at = out.place(i);
    const Range r = window_inside(at.h, g.kernel_h, g.stride_h, g.padding_h, in.h);
    const Range s = window_inside(at.w, g.kernel_w, g.stride_w, g.padding_w, in.w);
    const int64_t top = at.h * g.stride_h - g.padding_h, left = at.w * g.stride_w - g.padding_w;
    Values<kWidth, T> sum{};
    for (int row = r.begin; row < r.end; ++row) {
      for (int column = s.begin; column < s.end; ++column) {
        const Values<kWidth, T> v = load_values<kWidth>(x + in.offset(at.n, top + row, left + column, at.c));
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sum.v[k] += v.v[k];
      }
    }
    const auto scale =
        Compute<T>(1) / static_cast<Compute<T>>(window_size(g, in, at.h, at.w, count_include_pad));
#pragma unroll
    for (int k = 0; k < kWidth; ++k) sum.v[k] *= scale;
    land_values(y + i, sum, Write::assign);
  }
};

template <class T>
struct AvgBackward {
  const T* dy;
  T* dx;
  Extent in, out;
  Pool2dGeometry g;
  bool count_include_pad;
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Place at = in.place(i);
    const Range p = outputs_of(at.h, g.kernel_h, g.stride_h, g.padding_h, out.h);
    const Range q = outputs_of(at.w, g.kernel_w, g.stride_w, g.padding_w, out.w);
    Values<kWidth, T> sum{};
    for (int row = p.begin; row < p.end; ++row) {
      for (int column = q.begin; column < q.end; ++column) {
        const Values<kWidth, T> v = load_values<kWidth>(dy + out.offset(at.n, row, column, at.c));
        const auto scale =
            Compute<T>(1) / static_cast<Compute<T>>(window_size(g, in, row, column, count_include_pad));
#pragma unroll
        for (int k = 0; k < kWidth; ++k) sum.v[k] = std::fma(scale, v.v[k], sum.v[k]);
      }
    }
    land_values(dx + i, sum, write);
  }
};

template <class T>
struct GlobalAvgBackward {
  const T* dy;  // [N,C]
  T* dx;        // [N,pixels,C]
  int64_t pixels, channels;
  Compute<T> scale;
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const int64_t pixel = divide(i, channels);
    Values<kWidth, T> v = load_values<kWidth>(dy + divide(pixel, pixels) * channels + (i - pixel * channels));
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] *= scale;
    land_values(dx + i, v, write);
  }
};

// y[n,c] = mean of x[n,:,c]. A block takes 32 channels of one image: a warp reads neighbouring channels,
// eight warps share the pixels and are added in order.
constexpr int kColumns = 32, kRows = static_cast<int>(kBlock) / kColumns;
template <class T>
__global__ void __launch_bounds__(kBlock)
    global_avg_kernel(const T* x,  // [images,pixels,channels]
                      T* y,        // [images,channels]
                      int64_t images, int64_t pixels, int64_t channels) {
  using C = Compute<T>;
  __shared__ C shared[kRows][kColumns];  // a warp writes and reads one row: no bank conflicts
  const int lane = static_cast<int>(threadIdx.x) % kColumns, row = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  for (int64_t n = blockIdx.y; n < images; n += gridDim.y) {
    C sum = 0;
    if (c < channels)
      for (int64_t i = row; i < pixels; i += kRows) sum += to_float(x[(n * pixels + i) * channels + c]);
    shared[row][lane] = sum;
    __syncthreads();
    if (row == 0 && c < channels) {
      for (int i = 1; i < kRows; ++i) sum += shared[i][lane];
      y[n * channels + c] = from_float<T>(sum / static_cast<C>(pixels));
    }
    __syncthreads();
  }
}

/// Runs f over a tensor of `shape`, so many channels a thread as one access takes, if that divides them.
template <class T, class F>
Status launch_channels(const Queue& q, const Shape& shape, std::initializer_list<const void*> data,
                       const F& f) {
  constexpr int kWidth = 16 / static_cast<int>(sizeof(T));
  const bool wide = aligned_16(data) && shape[shape.rank - 1] % kWidth == 0;
  return launch_elementwise<kWidth>(stream_of(q), shape.numel(), wide, f);
}

Status max_forward_cuda(const Queue& q, const MaxPool2dForward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_channels<T>(
        q, a.y.shape, {a.x.data, a.y.data, a.index.data},
        MaxForward<T>{a.x.as<T>(), a.y.as<T>(), a.index.as<uint8_t>(), Extent(a.x.shape), Extent(a.y.shape),
                      a.geometry, a.activation == Activation::relu});
  });
}
Status max_backward_cuda(const Queue& q, const MaxPool2dBackward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_channels<T>(q, a.dx.shape, {a.dy.data, a.index.data, a.dx.data},
                              MaxBackward<T>{a.dy.as<T>(), a.index.as<uint8_t>(), a.dx.as<T>(),
                                             Extent(a.dx.shape), Extent(a.dy.shape), a.geometry, a.write});
  });
}
Status avg_forward_cuda(const Queue& q, const AvgPool2dForward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_channels<T>(q, a.y.shape, {a.x.data, a.y.data},
                              AvgForward<T>{a.x.as<T>(), a.y.as<T>(), Extent(a.x.shape), Extent(a.y.shape),
                                            a.geometry, a.count_include_pad});
  });
}
Status avg_backward_cuda(const Queue& q, const AvgPool2dBackward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_channels<T>(q, a.dx.shape, {a.dy.data, a.dx.data},
                              AvgBackward<T>{a.dy.as<T>(), a.dx.as<T>(), Extent(a.dx.shape),
                                             Extent(a.dy.shape), a.geometry, a.count_include_pad, a.write});
  });
}
Status global_avg_forward_cuda(const Queue& q, const GlobalAvgPoolForward& a) {
  if (a.y.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    const int64_t images = a.y.shape[0], channels = a.y.shape[1];
    constexpr int64_t kMostBlocks = 65535;  // of a grid's second axis
    const dim3 grid(static_cast<unsigned>((channels + kColumns - 1) / kColumns),
                    static_cast<unsigned>(std::min(images, kMostBlocks)));
    return launch(&global_avg_kernel<T>, grid, dim3(kBlock), 0, stream_of(q), a.x.as<T>(), a.y.as<T>(),
                  images, a.x.shape[1] * a.x.shape[2], channels);
  });
}
Status global_avg_backward_cuda(const Queue& q, const GlobalAvgPoolBackward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    const int64_t pixels = a.dx.shape[1] * a.dx.shape[2];
    return launch_channels<T>(q, a.dx.shape, {a.dy.data, a.dx.data},
                              GlobalAvgBackward<T>{a.dy.as<T>(), a.dx.as<T>(), pixels, a.dx.shape[3],
                                                   Compute<T>(1) / static_cast<Compute<T>>(pixels), a.write});
  });
}

const FillCuda kMaxForward{max_pool2d_forward, &max_forward_cuda};
const FillCuda kMaxBackward{max_pool2d_backward, &max_backward_cuda};
const FillCuda kAvgForward{avg_pool2d_forward, &avg_forward_cuda};
const FillCuda kAvgBackward{avg_pool2d_backward, &avg_backward_cuda};
const FillCuda kGlobalAvgForward{global_avg_pool_forward, &global_avg_forward_cuda};
const FillCuda kGlobalAvgBackward{global_avg_pool_backward, &global_avg_backward_cuda};

}  // namespace
}  // namespace cairn::kernels
