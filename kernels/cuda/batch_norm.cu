// y = act(gamma * (x - mean) * inv_std + beta + residual), forward, inference and backward;
// kernels/batch_norm.h has the equations. Each pass walks rows of C channels: a thread keeps its channels (16
// bytes of them where C allows) and what belongs to them in registers and goes down the rows, so accesses are
// coalesced and a channel's factors are read once a thread. Bytes: forward reads x for the sums, then x (and
// residual), and writes y; backward reads x, dy (and y) for the sums, then again, and writes dx (and
// dresidual). The ReLU mask is recomputed, not stored. Limited by memory.
//
// Sums: fp32 within kRows rows, fp64 beyond; squares are taken about those rows' own mean, so a mean far
// larger than the deviation costs no precision. Blocks' sums pass through scratch and are added in order: no
// atomics.
#include "kernels/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

constexpr int kRows = 4;  // held in registers at a time: 32 values of a 16-bit type

struct Walk {
  int64_t rows, channels;
  int lanes, rows_per_block;  // threads along the channels, and what they leave
  template <int kWidth>
  __device__ int64_t column() const {
    return (static_cast<int64_t>(blockIdx.y) * lanes + static_cast<int>(threadIdx.x) % lanes) * kWidth;
  }
  __device__ int row() const { return static_cast<int>(threadIdx.x) / lanes; }
  template <int kWidth>
  __device__ bool active() const {
    return row() < rows_per_block && column<kWidth>() < channels;
  }
};
Walk walk_of(const Shape& shape, int width) {
  const int64_t channels = shape[shape.rank - 1];
  const int lanes = static_cast<int>(std::min<int64_t>(channels / width, kBlock));
  return {shape.numel() / channels, channels, lanes, static_cast<int>(kBlock) / lanes};
}
/// Blocks for the rows, and for the channels beyond a block's.
dim3 grid_of(const Walk& w, int width, int64_t rows_a_thread, int64_t most) {
  const int64_t tiles = (w.channels / width + w.lanes - 1) / w.lanes;
  const int64_t share = w.rows_per_block * rows_a_thread;
  return {static_cast<unsigned>(std::clamp<int64_t>((w.rows + share - 1) / share, 1, most)),
          static_cast<unsigned>(tiles)};
}
/// Blocks that share the rows of a sum: 32 rows a thread, so that its start and its partial sums weigh
/// little, and at most 512 blocks, about four for each SM of an H100.
int64_t splits_of(const Walk& w, int width) { return grid_of(w, width, 32, 512).x; }

/// One access is 16 bytes where the channels and all pointers allow it.
template <class T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));
template <class T>
bool is_wide(const Shape& shape, std::initializer_list<const void*> data) {
  return shape[shape.rank - 1] % kWide<T> == 0 && aligned_16(data);
}
/// f(std::integral_constant<int, width>)
template <class T, class F>
Status with_width(bool wide, F&& f) {
  if (wide) return f(std::integral_constant<int, kWide<T>>{});
  return f(std::integral_constant<int, 1>{});
}

/// partial[0][split][c] and partial[1][split][c]: what f.add<kWidth>() makes of the rows of each block.
template <int kWidth, class F>
__global__ void __launch_bounds__(kBlock) sums_kernel(Walk walk, F f, double* partial) {
  __shared__ double shared[2][kWidth][kBlock];
  const int t = static_cast<int>(threadIdx.x);
  double first[kWidth] = {}, second[kWidth] = {};
  const int64_t column = walk.template column<kWidth>();
  if (walk.template active<kWidth>()) {
    const auto state = f.template prepare<kWidth>(column);
    const int64_t step = static_cast<int64_t>(gridDim.x) * walk.rows_per_block;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * walk.rows_per_block + walk.row(); row < walk.rows;
         row += kRows * step) {
      int rows = 0;  // counted, since a 64-bit division is a call around which registers spill
#pragma unroll
      for (int k = 0; k < kRows; ++k) rows += row + k * step < walk.rows ? 1 : 0;
      f.template add<kWidth>(state, row * walk.channels + column, step * walk.channels, rows, first, second);
    }
  }
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    shared[0][k][t] = first[k];
    shared[1][k][t] = second[k];
  }
  __syncthreads();
  if (walk.row() != 0 || column >= walk.channels) return;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    for (int r = 1; r < walk.rows_per_block; ++r) {
      first[k] += shared[0][k][t + r * walk.lanes];
      second[k] += shared[1][k][t + r * walk.lanes];
    }
    const int64_t at = static_cast<int64_t>(blockIdx.x) * walk.channels + column + k;
    partial[at] = first[k];
    partial[gridDim.x * walk.channels + at] = second[k];
  }
}

/// f(c, first sum, second sum) for each channel: 32 a block, whose eight warps share the splits.
constexpr int kColumns = 32, kGroups = static_cast<int>(kBlock) / kColumns;
template <class F>
__global__ void __launch_bounds__(kBlock)
    finish_kernel(const double* partial, int splits, int64_t channels, F f) {
  __shared__ double shared[2][kGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns, group = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  double first = 0, second = 0;
  if (c < channels) {
    for (int s = group; s < splits; s += kGroups) {
      first += partial[s * channels + c];
      second += partial[(splits + s) * channels + c];
    }
  }
  shared[0][group][lane] = first;
  shared[1][group][lane] = second;
  __syncthreads();
  if (group != 0 || c >= channels) return;
  for (int g = 1; g < kGroups; ++g) {
    first += shared[0][g][lane];
    second += shared[1][g][lane];
  }
  f(c, first, second);
}

/// f.run<kWidth>(state, i) for all groups of elements; state = f.prepare<kWidth>(channel).
template <int kWidth, class F>
__global__ void __launch_bounds__(kBlock, 2) walk_kernel(Walk walk, F f) {
  if (!walk.template active<kWidth>()) return;
  const int64_t column = walk.template column<kWidth>();
  const auto state = f.template prepare<kWidth>(column);
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * walk.rows_per_block + walk.row(); row < walk.rows;
       row += static_cast<int64_t>(gridDim.x) * walk.rows_per_block)
    f.template run<kWidth>(state, row * walk.channels + column);
}

template <int kWidth, class F>
Status launch_sums(const Queue& q, const Walk& walk, const F& f, double* partial) {
  return launch(&sums_kernel<kWidth, F>, dim3(grid_of(walk, kWidth, 32, 512)), dim3(kBlock), 0, stream_of(q),
                walk, f, partial);
}
template <class F>
Status launch_finish(const Queue& q, const Walk& walk, int width, const double* partial, const F& f) {
  return launch(&finish_kernel<F>, dim3(grid_for(walk.channels, kColumns, 1u << 30)), dim3(kBlock), 0,
                stream_of(q), partial, static_cast<int>(splits_of(walk, width)), walk.channels, f);
}
template <int kWidth, class F>
Status launch_walk(const Queue& q, const Walk& walk, const F& f) {
  return launch(&walk_kernel<kWidth, F>, grid_of(walk, kWidth, 4, 132 * 32), dim3(kBlock), 0, stream_of(q),
                walk, f);
}

/// Doubles of scratch for the sums: for either width, since alignment is not known when size is asked.
std::size_t sums_doubles(const Shape& shape, int wide) {
  int64_t splits = splits_of(walk_of(shape, 1), 1);
  if (shape[shape.rank - 1] % wide == 0) splits = std::max(splits, splits_of(walk_of(shape, wide), wide));
  return static_cast<std::size_t>(2 * splits * shape[shape.rank - 1]);
}
template <class Args>
std::size_t workspace_of(const Queue&, const Args& a) {
  const Shape& s = a.x.shape;
  if (s.numel() == 0) return 0;
  // Three factors a channel behind the sums, in backward.
  return (sums_doubles(s, 16 / static_cast<int>(size_of(a.x.dtype))) +
          static_cast<std::size_t>(3 * s[s.rank - 1])) *
         sizeof(double);
}

// ---- forward ----

template <class T>
struct MomentsOf {
  const T* x;
  struct None {};
  template <int kWidth>
  __device__ None prepare(int64_t) const {
    return {};
  }
  template <int kWidth>
  __device__ void add(None, int64_t i, int64_t step, int n, double* first, double* second) const {
    using C = Compute<T>;
    Values<kWidth, T> v[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (r < n) v[r] = load_values<kWidth>(x + i + r * step);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      C sum = 0, squares = 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (r < n) sum += v[r].v[k];
      const C mean = sum / static_cast<C>(n);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (r < n) squares = std::fma(v[r].v[k] - mean, v[r].v[k] - mean, squares);
      // sum x^2 = sum (x - m)^2 + m (2 sum x - n m), for any m
      const double s = static_cast<double>(sum), m = static_cast<double>(mean);
      first[k] += s;
      second[k] += static_cast<double>(squares) + m * (2 * s - n * m);
    }
  }
};

template <class C>
struct FinishForward {
  C *mean, *inv_std, *running_mean, *running_var;  // [C]; the running ones or null
  double count, momentum, eps;
  __device__ void operator()(int64_t c, double sum, double squares) const {
    const double m = sum / count, spread = squares / count - m * m;
    const double var = spread > 0 ? spread : (spread == spread ? 0 : spread);  // a NaN stays one
    mean[c] = static_cast<C>(m);
    inv_std[c] = static_cast<C>(1 / std::sqrt(var + eps));
    update(running_mean, c, m);
    update(running_var, c, var * count / (count > 1 ? count - 1 : 1));
  }

 private:
  __device__ void update(C* running, int64_t c, double value) const {
    if (running)
      running[c] = static_cast<C>((1 - momentum) * static_cast<double>(running[c]) + momentum * value);
  }
};

// A channel's inverse deviation: given, or from a variance.
template <class C>
struct InvStd {
  const C* inv_std;  // [C]
  const C* var;      // [C] in its place, or null
  double eps;
  __device__ C operator()(int64_t c) const {
    return var ? static_cast<C>(1 / std::sqrt(static_cast<double>(var[c]) + eps)) : inv_std[c];
  }
};

/// y = fma(x, scale, shift); forward and the backward mask compute the same bits.
template <int kWidth, class C>
struct Affine {
  C scale[kWidth], shift[kWidth];
};
template <class C>
struct AffineOf {
  const C *gamma, *beta, *mean;  // [C]
  InvStd<C> inv_std;
  template <int kWidth>
  __device__ Affine<kWidth, C> at(int64_t c) const {
    Affine<kWidth, C> a;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      a.scale[k] = gamma[c + k] * inv_std(c + k);
      a.shift[k] = std::fma(-mean[c + k], a.scale[k], beta[c + k]);
    }
    return a;
  }
};

template <class T>
struct ApplyForward {
  const T* x;
  const T* residual;  // or null
  T* y;
  AffineOf<Compute<T>> affine;
  Activation activation;
  template <int kWidth>
  __device__ Affine<kWidth, Compute<T>> prepare(int64_t c) const {
    return affine.template at<kWidth>(c);
  }
  template <int kWidth>
  __device__ void run(const Affine<kWidth, Compute<T>>& a, int64_t i) const {
    Values<kWidth, T> v = load_values<kWidth>(x + i), add{};
    if (residual) add = load_values<kWidth>(residual + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      v.v[k] = std::fma(v.v[k], a.scale[k], a.shift[k]);
      if (residual) v.v[k] += add.v[k];
      if (activation == Activation::relu && v.v[k] < 0) v.v[k] = 0;
    }
    land_values(y + i, v, Write::assign);
  }
};

Status forward_cuda(const Queue& q, const BatchNormForward& a) {
  if (a.x.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    return with_width<T>(
        is_wide<T>(a.x.shape, {a.x.data, a.residual.data, a.y.data}), [&](auto width) -> Status {
          constexpr int kWidth = decltype(width)::value;
          const Walk walk = walk_of(a.x.shape, kWidth);
          auto* partial = static_cast<double*>(a.scratch);
          Status sums = launch_sums<kWidth>(q, walk, MomentsOf<T>{a.x.as<T>()}, partial);
          if (!sums.ok()) return sums;
          Status finish =
              launch_finish(q, walk, kWidth, partial,
                            FinishForward<C>{a.mean.as<C>(), a.inv_std.as<C>(), a.running_mean.as<C>(),
                                             a.running_var.as<C>(), static_cast<double>(walk.rows),
                                             static_cast<double>(a.momentum), static_cast<double>(a.eps)});
          if (!finish.ok()) return finish;
          return launch_walk<kWidth>(
              q, walk,
              ApplyForward<T>{
                  a.x.as<T>(),
                  a.residual.as<T>(),
                  a.y.as<T>(),
                  {a.gamma.as<C>(), a.beta.as<C>(), a.mean.as<C>(), {a.inv_std.as<C>(), nullptr, 0}},
                  a.activation});
        });
  });
}

Status inference_cuda(const Queue& q, const BatchNormInference& a) {
  if (a.x.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    return with_width<T>(is_wide<T>(a.x.shape, {a.x.data, a.residual.data, a.y.data}), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      return launch_walk<kWidth>(
          q, walk_of(a.x.shape, kWidth),
          ApplyForward<T>{a.x.as<T>(),
                          a.residual.as<T>(),
                          a.y.as<T>(),
                          {a.gamma.as<C>(),
                           a.beta.as<C>(),
                           a.running_mean.as<C>(),
                           {nullptr, a.running_var.as<C>(), static_cast<double>(a.eps)}},
                          a.activation});
    });
  });
}

// ---- backward ----

enum class Mask { none, from_y, from_x };

/// g = dy where the activation passed, else 0.
template <class T, Mask kMask>
struct GradientOf {
  const T* x;
  const T* y;  // with Mask::from_y
  const T* dy;
  template <int kWidth>
  __device__ Values<kWidth, T> at(int64_t i, const Values<kWidth, T>& vx,
                                  const Affine<kWidth, Compute<T>>& a) const {
    Values<kWidth, T> g = load_values<kWidth>(dy + i), vy{};
    if constexpr (kMask == Mask::from_y) vy = load_values<kWidth>(y + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      if constexpr (kMask == Mask::from_y) g.v[k] = vy.v[k] > 0 ? g.v[k] : 0;
      if constexpr (kMask == Mask::from_x)
        g.v[k] = std::fma(vx.v[k], a.scale[k], a.shift[k]) > 0 ? g.v[k] : 0;
    }
    return g;
  }
};

/// What a channel's gradients need: its mean, the affine map for the mask, and dx = a g + (b (x - mean) + c).
template <int kWidth, class C>
struct BackwardState {
  Affine<kWidth, C> affine;
  C mean[kWidth], a[kWidth], b[kWidth], c[kWidth];
};
template <class T, Mask kMask>
struct BackwardOf {
  using C = Compute<T>;
  GradientOf<T, kMask> gradient;
  AffineOf<C> affine;
  T* dx;         // or null
  T* dresidual;  // or null
  Write dx_write, dresidual_write;
  const C* factors;  // [3][channels]: a, b, c; null for the sums
  int64_t channels;

  template <int kWidth>
  __device__ BackwardState<kWidth, C> prepare(int64_t column) const {
    BackwardState<kWidth, C> s{};
    if constexpr (kMask == Mask::from_x) s.affine = affine.template at<kWidth>(column);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      s.mean[k] = affine.mean[column + k];
      if (!factors) continue;
      s.a[k] = factors[column + k];
      s.b[k] = factors[channels + column + k];
      s.c[k] = factors[2 * channels + column + k];
    }
    return s;
  }
  /// first += sum g, second += sum g (x - mean)
  template <int kWidth>
  __device__ void add(const BackwardState<kWidth, C>& s, int64_t i, int64_t step, int n, double* first,
                      double* second) const {
    C sum[kWidth] = {}, product[kWidth] = {};
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= n) break;
      const Values<kWidth, T> x = load_values<kWidth>(gradient.x + i + r * step);
      const Values<kWidth, T> g = gradient.template at<kWidth>(i + r * step, x, s.affine);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        sum[k] += g.v[k];
        product[k] = std::fma(g.v[k], x.v[k] - s.mean[k], product[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      first[k] += static_cast<double>(sum[k]);
      second[k] += static_cast<double>(product[k]);
    }
  }
  template <int kWidth>
  __device__ void run(const BackwardState<kWidth, C>& s, int64_t i) const {
    const Values<kWidth, T> x = load_values<kWidth>(gradient.x + i);
    const Values<kWidth, T> g = gradient.template at<kWidth>(i, x, s.affine);
    if (dresidual) land_values(dresidual + i, g, dresidual_write);
    if (!dx) return;
    Values<kWidth, T> d;
#pragma unroll
    for (int k = 0; k < kWidth; ++k)
      d.v[k] = std::fma(s.a[k], g.v[k], std::fma(s.b[k], x.v[k] - s.mean[k], s.c[k]));
    land_values(dx + i, d, dx_write);
  }
};

template <class C>
struct FinishBackward {
  const C* gamma;  // [C]
  InvStd<C> inv_std;
  C* dgamma;   // [C] or null
  C* dbeta;    // [C] or null
  C* factors;  // [3][C]
  Write write;
  double count;
  int64_t channels;
  bool frozen;  // running statistics carry no gradient
  __device__ void operator()(int64_t c, double sum, double product) const {
    const double r = static_cast<double>(inv_std(c)), factor = static_cast<double>(gamma[c]) * r;
    land(dbeta, c, sum);
    land(dgamma, c, product * r);
    factors[c] = static_cast<C>(factor);
    factors[channels + c] = static_cast<C>(frozen ? 0 : -factor * r * r * product / count);
    factors[2 * channels + c] = static_cast<C>(frozen ? 0 : -factor * sum / count);
  }

 private:
  __device__ void land(C* to, int64_t c, double value) const {
    if (to) to[c] = static_cast<C>(write == Write::add ? static_cast<double>(to[c]) + value : value);
  }
};

template <class T, Mask kMask, class Args>
Status run_backward(const Queue& q, const Args& a, const AffineOf<Compute<T>>& affine, bool frozen) {
  using C = Compute<T>;
  const bool wide = is_wide<T>(a.x.shape, {a.x.data, a.y.data, a.dy.data, a.dx.data, a.dresidual.data});
  return with_width<T>(wide, [&](auto width) -> Status {
    constexpr int kWidth = decltype(width)::value;
    const Walk walk = walk_of(a.x.shape, kWidth);
    auto* partial = static_cast<double*>(a.scratch);
    auto* factors = reinterpret_cast<C*>(partial + sums_doubles(a.x.shape, kWide<T>));
    BackwardOf<T, kMask> f{{a.x.template as<T>(), a.y.template as<T>(), a.dy.template as<T>()},
                           affine,
                           a.dx.template as<T>(),
                           a.dresidual.template as<T>(),
                           a.dx_write,
                           a.dresidual_write,
                           nullptr,
                           walk.channels};
    Status sums = launch_sums<kWidth>(q, walk, f, partial);
    if (!sums.ok()) return sums;
    Status finish = launch_finish(
        q, walk, kWidth, partial,
        FinishBackward<C>{affine.gamma, affine.inv_std, a.dgamma.template as<C>(), a.dbeta.template as<C>(),
                          factors, a.param_write, static_cast<double>(walk.rows), walk.channels, frozen});
    if (!finish.ok() || (!a.dx && !a.dresidual)) return finish;
    f.factors = factors;
    return launch_walk<kWidth>(q, walk, f);
  });
}

Status backward_cuda(const Queue& q, const BatchNormBackward& a) {
  if (a.x.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const AffineOf<C> affine{
        a.gamma.as<C>(), a.beta.as<C>(), a.mean.as<C>(), {a.inv_std.as<C>(), nullptr, 0}};
    if (a.activation == Activation::none) return run_backward<T, Mask::none>(q, a, affine, false);
    if (a.y) return run_backward<T, Mask::from_y>(q, a, affine, false);
    return run_backward<T, Mask::from_x>(q, a, affine, false);
  });
}

Status inference_backward_cuda(const Queue& q, const BatchNormInferenceBackward& a) {
  if (a.x.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const AffineOf<C> affine{a.gamma.as<C>(),
                             nullptr,
                             a.running_mean.as<C>(),
                             {nullptr, a.running_var.as<C>(), static_cast<double>(a.eps)}};
    if (a.activation == Activation::none) return run_backward<T, Mask::none>(q, a, affine, true);
    return run_backward<T, Mask::from_y>(q, a, affine, true);
  });
}

const FillCuda kForward{batch_norm_forward, &forward_cuda, &workspace_of<BatchNormForward>};
const FillCuda kInference{batch_norm_inference, &inference_cuda};
const FillCuda kBackward{batch_norm_backward, &backward_cuda, &workspace_of<BatchNormBackward>};
const FillCuda kInferenceBackward{batch_norm_inference_backward, &inference_backward_cuda,
                                  &workspace_of<BatchNormInferenceBackward>};

}  // namespace
}  // namespace cairn::kernels
