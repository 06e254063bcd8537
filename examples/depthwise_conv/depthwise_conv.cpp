// Depthwise convolution (Howard et al. 2017): every channel has a filter of its own. Stride 1, odd filters,
// and as much padding as keeps the image's size:
//   y[n,h,w,c] = sum over r, s of x[n, h+r-R/2, w+s-S/2, c] * f[r,s,c]     (0 outside the image)
//   dx = the same of dy with f turned by 180 degrees;   df[r,s,c] = sum over n, h, w of
//   x[n,h+r-R/2,w+s-S/2,c] * dy[n,h,w,c]
// x, y: [N,H,W,C] in the compute dtype; f: [R,S,C] fp32 (fp64 for fp64 x). Saves x and f.
#include "kernels/dispatch.h"

namespace cairn::kernels {

struct DepthwiseForward {
  ConstView x;
  ConstView f;
  View y;
  bool turned = false;  // f by 180 degrees: the gradient of x
  Write write = Write::assign;
  DType dtype() const { return x.dtype; }
};
struct DepthwiseFilter {
  ConstView x;
  ConstView dy;
  View df;
  Write write = Write::assign;
  DType dtype() const { return x.dtype; }
};
inline constinit KernelSlot<DepthwiseForward> depthwise_forward("depthwise_forward");
inline constinit KernelSlot<DepthwiseFilter> depthwise_filter("depthwise_filter");

}  // namespace cairn::kernels

#if defined(CAIRN_DEVICE_PASS)
#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/launch.h"

namespace cairn::kernels {
namespace {

struct Geometry {
  int64_t n, h, w, c;
  int r, s;
};
Geometry geometry_of(const ConstView& x, const Shape& f) {
  return {x.shape[0], x.shape[1], x.shape[2], x.shape[3], static_cast<int>(f[0]), static_cast<int>(f[1])};
}

// A thread an output element; neighbours in a warp are neighbouring channels, so every access is coalesced.
// Bytes: x and f come from the caches after their first use; y once.
template <class T>
__global__ void __launch_bounds__(kBlock) depthwise_forward_kernel(const T* x,           // [N,H,W,C]
                                                                   const Compute<T>* f,  // [R,S,C]
                                                                   T* y,                 // [N,H,W,C]
                                                                   Geometry g, bool turned, Write write) {
  for (int64_t i = grid_start(); i < g.n * g.h * g.w * g.c; i += grid_stride()) {
    const int64_t c = i % g.c, w = i / g.c % g.w, h = i / (g.c * g.w) % g.h, n = i / (g.c * g.w * g.h);
    Compute<T> sum = 0;
    for (int r = 0; r < g.r; ++r)
      for (int s = 0; s < g.s; ++s) {
        const int64_t hh = h + r - g.r / 2, ww = w + s - g.s / 2;
        if (hh < 0 || hh >= g.h || ww < 0 || ww >= g.w) continue;
        const int tap = turned ? (g.r - 1 - r) * g.s + (g.s - 1 - s) : r * g.s + s;
        sum += to_float(x[((n * g.h + hh) * g.w + ww) * g.c + c]) * f[tap * g.c + c];
      }
    y[i] = from_float<T>(write == Write::add ? to_float(y[i]) + sum : sum);
  }
}

constexpr int kRows = 8;  // warps a block: partial sums that meet in shared memory

// A block a tap and 32 channels: lane = channel, each of the 8 warps sums every 8th pixel, then the warps'
// sums are added in a fixed order. The same bits in every run.
template <class T>
__global__ void __launch_bounds__(32 * kRows) depthwise_filter_kernel(const T* x,      // [N,H,W,C]
                                                                      const T* dy,     // [N,H,W,C]
                                                                      Compute<T>* df,  // [R,S,C]
                                                                      Geometry g, Write write) {
  __shared__ Compute<T> partial[kRows][32];
  const int tap = static_cast<int>(blockIdx.y), r = tap / g.s, s = tap % g.s;
  const unsigned lane = threadIdx.x % 32, row = threadIdx.x / 32;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * 32 + lane;
  Compute<T> sum = 0;
  if (c < g.c)
    for (int64_t p = row; p < g.n * g.h * g.w; p += kRows) {
      const int64_t w = p % g.w, h = p / g.w % g.h;
      const int64_t hh = h + r - g.r / 2, ww = w + s - g.s / 2;
      if (hh < 0 || hh >= g.h || ww < 0 || ww >= g.w) continue;
      sum += to_float(x[(p + (hh - h) * g.w + (ww - w)) * g.c + c]) * to_float(dy[p * g.c + c]);
    }
  partial[row][lane] = sum;
  __syncthreads();
  if (row != 0 || c >= g.c) return;
  for (int k = 1; k < kRows; ++k) sum += partial[k][lane];
  Compute<T>& to = df[tap * g.c + c];
  to = write == Write::add ? to + sum : sum;
}

template <class T>
Status forward_cuda(const Queue& q, const DepthwiseForward& a) {
  if (a.y.numel() == 0) return {};
  return launch(depthwise_forward_kernel<T>, dim3(grid_for(a.y.numel())), dim3(kBlock), 0,
                static_cast<cudaStream_t>(q.stream), a.x.as<T>(), a.f.as<Compute<T>>(), a.y.as<T>(),
                geometry_of(a.x, a.f.shape), a.turned, a.write);
}
template <class T>
Status filter_cuda(const Queue& q, const DepthwiseFilter& a) {
  if (a.df.numel() == 0) return {};
  const Geometry g = geometry_of(a.x, a.df.shape);
  return launch(depthwise_filter_kernel<T>,
                dim3(static_cast<unsigned>((g.c + 31) / 32), static_cast<unsigned>(g.r * g.s)),
                dim3(32 * kRows), 0, static_cast<cudaStream_t>(q.stream), a.x.as<T>(), a.dy.as<T>(),
                a.df.as<Compute<T>>(), g, a.write);
}

template <class T>
struct FillDepthwise {
  const Fill forward{depthwise_forward, kCudaDevice, dtype_of<T>, &forward_cuda<T>};
  const Fill filter{depthwise_filter, kCudaDevice, dtype_of<T>, &filter_cuda<T>};
};
const FillDepthwise<float> kF32;
const FillDepthwise<__nv_bfloat16> kBf16;
const FillDepthwise<__half> kF16;
const FillDepthwise<double> kF64;

}  // namespace
}  // namespace cairn::kernels

#else
#include <algorithm>

#include "engine/autograd.h"
#include "engine/ops/checks.h"
#include "kernels/cpu/parallel.h"

namespace cairn {
namespace kernels {
namespace {

// The definition written out, for fp64: what gradients are checked with, and what the quick kernels below are
// held against.
Status forward_cpu(const Queue&, const DepthwiseForward& a) {
  const std::int64_t H = a.x.shape[1], W = a.x.shape[2], C = a.x.shape[3], R = a.f.shape[0], S = a.f.shape[1];
  parallel_for(a.x.shape[0] * H, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t w = 0; w < W; ++w)
        for (std::int64_t c = 0; c < C; ++c) {
          double sum = 0;
          for (std::int64_t r = 0; r < R; ++r)
            for (std::int64_t s = 0; s < S; ++s) {
              const std::int64_t h = row % H + r - R / 2, ww = w + s - S / 2;
              if (h < 0 || h >= H || ww < 0 || ww >= W) continue;
              const std::int64_t tap = a.turned ? (R - 1 - r) * S + (S - 1 - s) : r * S + s;
              sum += a.x.as<double>()[((row - row % H + h) * W + ww) * C + c] * a.f.as<double>()[tap * C + c];
            }
          double& to = a.y.as<double>()[(row * W + w) * C + c];
          to = a.write == Write::add ? to + sum : sum;
        }
  });
  return {};
}

Status filter_cpu(const Queue&, const DepthwiseFilter& a) {
  const std::int64_t H = a.x.shape[1], W = a.x.shape[2], C = a.x.shape[3], R = a.df.shape[0],
                     S = a.df.shape[1];
  parallel_for(R * S * C, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t c = i % C, s = i / C % S, r = i / (C * S);
      double sum = 0;
      for (std::int64_t row = 0; row < a.x.shape[0] * H; ++row)
        for (std::int64_t w = 0; w < W; ++w) {
          const std::int64_t h = row % H + r - R / 2, ww = w + s - S / 2;
          if (h < 0 || h >= H || ww < 0 || ww >= W) continue;
          sum += a.x.as<double>()[((row - row % H + h) * W + ww) * C + c] *
                 a.dy.as<double>()[(row * W + w) * C + c];
        }
      double& to = a.df.as<double>()[i];
      to = a.write == Write::add ? to + sum : sum;
    }
  });
  return {};
}

// The quick kernels, for fp32 and bf16: channels innermost, in blocks whose sums stay in registers or the
// nearest cache, so that the compiler makes vectors of them; taps that fall outside are left out before the
// loop over channels.
constexpr std::int64_t kChannels = 64;

/// f(tap, offset) for the filter's taps that lie inside the image at (h, w); offset: of x against the pixel,
/// in pixels.
template <class F>
void for_each_tap(const Shape& x, std::int64_t R, std::int64_t S, std::int64_t h, std::int64_t w, F&& f) {
  const std::int64_t H = x[1], W = x[2];
  for (std::int64_t r = std::max<std::int64_t>(0, R / 2 - h); r < std::min(R, H + R / 2 - h); ++r)
    for (std::int64_t s = std::max<std::int64_t>(0, S / 2 - w); s < std::min(S, W + S / 2 - w); ++s)
      f(r * S + s, (r - R / 2) * W + s - S / 2);
}

template <class T>
Status quick_forward_cpu(const Queue&, const DepthwiseForward& a) {
  const std::int64_t H = a.x.shape[1], W = a.x.shape[2], C = a.x.shape[3], R = a.f.shape[0], S = a.f.shape[1];
  parallel_for(a.x.shape[0] * H, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t w = 0; w < W; ++w)
        for (std::int64_t c = 0; c < C; c += kChannels) {
          const std::int64_t n = std::min(kChannels, C - c), pixel = row * W + w;
          float sum[kChannels] = {};
          for_each_tap(a.x.shape, R, S, row % H, w, [&](std::int64_t tap, std::int64_t offset) {
            const T* x = a.x.as<T>() + (pixel + offset) * C + c;
            const float* f = a.f.as<float>() + (a.turned ? R * S - 1 - tap : tap) * C + c;
            for (std::int64_t i = 0; i < n; ++i) sum[i] += static_cast<float>(x[i]) * f[i];
          });
          T* y = a.y.as<T>() + pixel * C + c;
          for (std::int64_t i = 0; i < n; ++i)
            y[i] = static_cast<T>(a.write == Write::add ? static_cast<float>(y[i]) + sum[i] : sum[i]);
        }
  });
  return {};
}

// A thread has channels to itself: their sums are added in one order, whatever the number of threads.
template <class T>
Status quick_filter_cpu(const Queue&, const DepthwiseFilter& a) {
  const std::int64_t H = a.x.shape[1], W = a.x.shape[2], C = a.x.shape[3], R = a.df.shape[0],
                     S = a.df.shape[1], blocks = (C + kChannels - 1) / kChannels;
  parallel_for(R * S * blocks, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t part = begin; part < end; ++part) {
      const std::int64_t tap = part / blocks, c = part % blocks * kChannels, n = std::min(kChannels, C - c);
      const std::int64_t dh = tap / S - R / 2, dw = tap % S - S / 2;
      double sum[kChannels] = {};
      for (std::int64_t row = 0; row < a.x.shape[0] * H; ++row) {
        if (row % H + dh < 0 || row % H + dh >= H) continue;
        float of_row[kChannels] = {};
        for (std::int64_t w = std::max<std::int64_t>(0, -dw); w < std::min(W, W - dw); ++w) {
          const T* dy = a.dy.as<T>() + (row * W + w) * C + c;
          const T* x = a.x.as<T>() + ((row + dh) * W + w + dw) * C + c;
          for (std::int64_t i = 0; i < n; ++i)
            of_row[i] += static_cast<float>(x[i]) * static_cast<float>(dy[i]);
        }
        for (std::int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(of_row[i]);
      }
      float* df = a.df.as<float>() + tap * C + c;
      for (std::int64_t i = 0; i < n; ++i)
        df[i] = static_cast<float>(a.write == Write::add ? static_cast<double>(df[i]) + sum[i] : sum[i]);
    }
  });
  return {};
}

const Fill kForwardF64{depthwise_forward, DeviceType::cpu, DType::f64, &forward_cpu};
const Fill kFilterF64{depthwise_filter, DeviceType::cpu, DType::f64, &filter_cpu};
template <class T>
struct FillDepthwise {
  const Fill forward{depthwise_forward, DeviceType::cpu, dtype_of<T>, &quick_forward_cpu<T>};
  const Fill filter{depthwise_filter, DeviceType::cpu, dtype_of<T>, &quick_filter_cpu<T>};
};
const FillDepthwise<float> kF32;
const FillDepthwise<BFloat16> kBf16;

}  // namespace
}  // namespace kernels

/// x [N,H,W,C], f [R,S,C] with odd R and S -> [N,H,W,C]. Throws ShapeError, DTypeError.
Tensor depthwise_conv(const Tensor& x, const Tensor& f) {
  ops::require_floating(x, "depthwise_conv");
  ops::require_rank(x, 4, "depthwise_conv", "x");
  ops::require_rank(f, 3, "depthwise_conv", "the filter");
  ops::require(f.size(0) % 2 == 1 && f.size(1) % 2 == 1, "depthwise_conv",
               "the filter is " + to_string(f.shape()) + ", expected odd height and width");
  ops::require_parameter(x, f, {f.size(0), f.size(1), x.size(3)}, "depthwise_conv", "the filter");
  Tensor y = empty_like(x);
  call(kernels::depthwise_forward, x.queue(), {x.view(), f.view(), y.out()});
  return record("depthwise_conv", y, {x, f}, [x = Saved(x), f = Saved(f)](Grads& g) {
    const kernels::Queue& queue = x.tensor().queue();
    if (auto dx = g.wants(0))
      call(kernels::depthwise_forward, queue, {g.output(), f.view(), dx->view, true, dx->write});
    if (auto df = g.wants(1))
      call(kernels::depthwise_filter, queue, {x.view(), g.output(), df->view, df->write});
  });
}

}  // namespace cairn
#endif
