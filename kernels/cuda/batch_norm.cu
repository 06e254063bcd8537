// y = act(gamma * (x - mean) * inv_std + beta + residual), forward, inference and backward;
// kernels/batch_norm.h has the equations. Each pass walks rows of C channels: a thread keeps its channels (16
// bytes of them where C allows) and what belongs to them in registers and goes down the rows, so accesses are
// coalesced and a channel's factors are read once a thread. Bytes: forward reads x for the sums, then x (and
// residual), and writes y; backward reads x and dy for the sums, then again, and writes dx. With a residual
// the sums read y too, for the mask, and write dresidual, which is dy behind the mask: the second pass reads
// that in place of dy and y. Without, the mask is recomputed from x. Limited by memory.
//
// Sums: fp32 within kRows rows, fp64 beyond; squares are taken about those rows' own mean, so a mean far
// larger than the deviation costs no precision. Blocks' sums pass through scratch and are added in order: no
// atomics.
#include "kernels/batch_norm.h"

#include <cmath>

#include "kernels/cuda/channel_walk.h"
#include "kernels/cuda/device/batch_norm.h"
#include "kernels/cuda/fill.h"
#include "kernels/sync_batch_norm.h"

namespace cairn::kernels {
namespace {

constexpr int kFactors = 6;  // numbers a channel that the sums leave for the walk, behind them in scratch

template <class Args>
std::size_t workspace_of(const Queue&, const Args& a) {
  const Shape& s = a.x.shape;
  if (s.numel() == 0) return 0;
  return (sums_doubles(s, 16 / static_cast<int>(size_of(a.x.dtype))) +
          static_cast<std::size_t>(kFactors * s[s.rank - 1])) *
         sizeof(double);
}

/// One of the factors behind the sums.
template <class C>
ChannelScratch<C> factor(void* scratch, const Shape& shape, int wide, int width, int number) {
  const int64_t channels = shape[shape.rank - 1];
  auto* const first = reinterpret_cast<C*>(static_cast<double*>(scratch) + sums_doubles(shape, wide));
  return {first + number * channels, channels, width};
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

/// The moments as they go to other processes.
struct FinishMoments {
  double* sums;  // [2C+1]
  int64_t channels, rows;
  __device__ void operator()(int64_t c, double sum, double squares) const {
    sums[c] = sum;
    sums[channels + c] = squares;
    if (c == 0) sums[2 * channels] = static_cast<double>(rows);
  }
};

std::size_t moments_workspace(const Queue&, const ChannelMoments& a) {
  const Shape& s = a.x.shape;
  if (s[s.rank - 1] == 0) return 0;
  return sums_doubles(s, 16 / static_cast<int>(size_of(a.x.dtype))) * sizeof(double);
}

// A process without rows has sums, too: of nothing.
Status channel_moments_cuda(const Queue& q, const ChannelMoments& a) {
  auto* const out = a.sums.as<double>();
  if (a.sums.numel() == 1)  // no channels
    return cuda_status(cudaMemsetAsync(out, 0, sizeof(double), stream_of(q)), "clearing sums");
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return with_width<T>(is_wide<T>(a.x.shape, {a.x.data}), [&](auto width) -> Status {
      constexpr int kWidth = decltype(width)::value;
      const Walk walk = walk_of(a.x.shape, kWidth);
      auto* const partial = static_cast<double*>(a.scratch);
      Status sums = launch_sums<kWidth>(q, walk, MomentsOf<T>{a.x.as<T>()}, partial);
      if (!sums.ok()) return sums;
      return launch_finish(q, walk, kWidth, partial, FinishMoments{out, walk.channels, walk.rows});
    });
  });
}

// A channel's inverse deviation: given, or from a variance.
template <class C>
struct InvStd {
  const C* inv_std;  // [C]
  const C* var;      // [C] in its place, or null
  double eps;
  __device__ C operator()(int64_t c) const {
    return var ? static_cast<C>(1 / std::sqrt(static_cast<double>(var[c]) + eps)) : inv_std[c];
  }
  template <int kWidth>
  __device__ void read(int64_t c, ChannelValues<kWidth, C>& out) const {
    out.load((var ? var : inv_std) + c);
    if (!var) return;
#pragma unroll
    for (int k = 0; k < kWidth; ++k)
      out.v[k] = static_cast<C>(1 / std::sqrt(static_cast<double>(out.v[k]) + eps));
  }
};

/// y = fma(x, scale, shift); forward and the backward mask compute the same bits.
template <int kWidth, class C>
struct Affine {
  ChannelValues<kWidth, C> scale, shift;
};
template <class C>
struct AffineOf {
  const C *gamma, *beta, *mean;  // [C]
  InvStd<C> inv_std;
  __device__ C scale(int64_t c) const { return gamma[c] * inv_std(c); }
  __device__ C shift(int64_t c, C scale) const { return std::fma(-mean[c], scale, beta[c]); }
  template <int kWidth>
  __device__ Affine<kWidth, C> at(int64_t c) const {
    ChannelValues<kWidth, C> m;
    m.load(mean + c);
    return at(c, m);
  }
  template <int kWidth>
  __device__ Affine<kWidth, C> at(int64_t c, const ChannelValues<kWidth, C>& m) const {
    ChannelValues<kWidth, C> g, b, r;
    g.load(gamma + c);
    b.load(beta + c);
    inv_std.read(c, r);
    Affine<kWidth, C> a;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      a.scale.v[k] = g.v[k] * r.v[k];
      a.shift.v[k] = std::fma(-m.v[k], a.scale.v[k], b.v[k]);
    }
    return a;
  }
};
/// The map as the sums left it in scratch.
template <class C>
struct AffineScratch {
  ChannelScratch<C> scale, shift;
  template <int kWidth>
  __device__ Affine<kWidth, C> at(int64_t column) const {
    Affine<kWidth, C> a;
    scale.read(column, a.scale);
    shift.read(column, a.shift);
    return a;
  }
};

template <class C>
struct FinishForward {
  C *mean, *inv_std;  // [C]
  RunningStatistics<C> running;
  double count, eps;
  AffineOf<C> affine;
  AffineScratch<C> left;
  __device__ void operator()(int64_t c, double sum, double squares) const {
    const Moments m(sum, squares, count);
    mean[c] = static_cast<C>(m.mean);
    inv_std[c] = static_cast<C>(1 / std::sqrt(m.var + eps));
    running.update(c, m);
    const C scale = affine.scale(c);
    left.scale.at(c) = scale;
    left.shift.at(c) = affine.shift(c, scale);
  }
};

/// kAffine: where the map comes from.
template <class T, template <class> class kAffine>
struct ApplyForward {
  const T* x;
  const T* residual;  // or null
  T* y;
  kAffine<Compute<T>> affine;
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
      v.v[k] = std::fma(v.v[k], a.scale.v[k], a.shift.v[k]);
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
          const auto left = [&](int number) {
            return factor<C>(a.scratch, a.x.shape, kWide<T>, kWidth, number);
          };
          const AffineScratch<C> affine{left(0), left(1)};
          Status sums = launch_sums<kWidth>(q, walk, MomentsOf<T>{a.x.as<T>()}, partial);
          if (!sums.ok()) return sums;
          Status finish = launch_finish(
              q, walk, kWidth, partial,
              FinishForward<C>{
                  a.mean.as<C>(),
                  a.inv_std.as<C>(),
                  {a.running_mean.as<C>(), a.running_var.as<C>(), static_cast<double>(a.momentum)},
                  static_cast<double>(walk.rows),
                  static_cast<double>(a.eps),
                  {a.gamma.as<C>(), a.beta.as<C>(), a.mean.as<C>(), {a.inv_std.as<C>(), nullptr, 0}},
                  affine});
          if (!finish.ok()) return finish;
          return launch_walk<kWidth>(q, walk,
                                     ApplyForward<T, AffineScratch>{a.x.as<T>(), a.residual.as<T>(),
                                                                    a.y.as<T>(), affine, a.activation});
        });
  });
}

Status inference_cuda(const Queue& q, const BatchNormInference& a) {
  if (a.x.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    return with_width<T>(
        is_wide<T>(a.x.shape, {a.x.data, a.residual.data, a.y.data, a.gamma.data, a.beta.data,
                               a.running_mean.data, a.running_var.data}),
        [&](auto width) {
          constexpr int kWidth = decltype(width)::value;
          return launch_walk<kWidth>(
              q, walk_of(a.x.shape, kWidth),
              ApplyForward<T, AffineOf>{a.x.as<T>(),
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
        g.v[k] = std::fma(vx.v[k], a.scale.v[k], a.shift.v[k]) > 0 ? g.v[k] : 0;
    }
    return g;
  }
};

/// The sums of a channel's gradients: first += sum g, second += sum g (x - mean)
template <int kWidth, class C>
struct SumsState {
  Affine<kWidth, C> affine;  // for the mask
  ChannelValues<kWidth, C> mean;
};
template <class T, Mask kMask>
struct GradientSumsOf {
  using C = Compute<T>;
  GradientOf<T, kMask> gradient;
  AffineOf<C> affine;
  T* masked;  // where g is left, or null

  template <int kWidth>
  __device__ SumsState<kWidth, C> prepare(int64_t column) const {
    SumsState<kWidth, C> s{};
    s.mean.load(affine.mean + column);
    if constexpr (kMask == Mask::from_x) s.affine = affine.at(column, s.mean);
    return s;
  }
  template <int kWidth>
  __device__ void add(const SumsState<kWidth, C>& s, int64_t i, int64_t step, int n, double* first,
                      double* second) const {
    C sum[kWidth] = {}, product[kWidth] = {};
    Pack<kWidth, T> kept[kRows];  // stored behind all loads, which may then be under way together
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= n) break;
      const Values<kWidth, T> x = load_values<kWidth>(gradient.x + i + r * step);
      const Values<kWidth, T> g = gradient.template at<kWidth>(i + r * step, x, s.affine);
      if constexpr (kMask == Mask::from_y) {
#pragma unroll
        for (int k = 0; k < kWidth; ++k) kept[r].v[k] = from_float<T>(g.v[k]);
      }
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        sum[k] += g.v[k];
        product[k] = std::fma(g.v[k], x.v[k] - s.mean.v[k], product[k]);
      }
    }
    if constexpr (kMask == Mask::from_y) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (masked && r < n) store_pack(masked + i + r * step, kept[r]);
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      first[k] += static_cast<double>(sum[k]);
      second[k] += static_cast<double>(product[k]);
    }
  }
};

/// What the sums leave for the walk: dx = a g + (b (x - mean) + c), and the affine map for the mask.
template <class C>
struct BackwardFactors {
  ChannelScratch<C> a, b, c, mean;
  AffineScratch<C> affine;
};
template <int kWidth, class C>
struct BackwardState {
  Affine<kWidth, C> affine;
  ChannelValues<kWidth, C> a, b, c, mean;
};
template <class T, Mask kMask>
struct BackwardOf {
  using C = Compute<T>;
  GradientOf<T, kMask> gradient;
  BackwardFactors<C> factors;
  T* dx;         // or null
  T* dresidual;  // or null
  Write dx_write, dresidual_write;

  template <int kWidth>
  __device__ BackwardState<kWidth, C> prepare(int64_t column) const {
    BackwardState<kWidth, C> s{};
    if constexpr (kMask == Mask::from_x) s.affine = factors.affine.template at<kWidth>(column);
    factors.a.read(column, s.a);
    factors.b.read(column, s.b);
    factors.c.read(column, s.c);
    factors.mean.read(column, s.mean);
    return s;
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
      d.v[k] = std::fma(s.a.v[k], g.v[k], std::fma(s.b.v[k], x.v[k] - s.mean.v[k], s.c.v[k]));
    land_values(dx + i, d, dx_write);
  }
};

template <class C>
struct FinishBackward {
  AffineOf<C> affine;
  C* dgamma;  // [C] or null
  C* dbeta;   // [C] or null
  BackwardFactors<C> left;
  Write write;
  double count;
  bool frozen, masked;  // running statistics carry no gradient; the walk needs the map for its mask
  __device__ void operator()(int64_t c, double sum, double product) const {
    const double r = static_cast<double>(affine.inv_std(c)),
                 factor = static_cast<double>(affine.gamma[c]) * r;
    land(dbeta, c, sum);
    land(dgamma, c, product * r);
    left.a.at(c) = static_cast<C>(factor);
    left.b.at(c) = static_cast<C>(frozen ? 0 : -factor * r * r * product / count);
    left.c.at(c) = static_cast<C>(frozen ? 0 : -factor * sum / count);
    left.mean.at(c) = affine.mean[c];
    if (!masked) return;
    const C scale = affine.scale(c);
    left.affine.scale.at(c) = scale;
    left.affine.shift.at(c) = affine.shift(c, scale);
  }

 private:
  __device__ void land(C* to, int64_t c, double value) const {
    if (to) to[c] = static_cast<C>(write == Write::add ? static_cast<double>(to[c]) + value : value);
  }
};

template <class T, Mask kMask, class Args>
Status run_backward(const Queue& q, const Args& a, const AffineOf<Compute<T>>& affine, bool frozen) {
  using C = Compute<T>;
  const bool wide = is_wide<T>(a.x.shape, {a.x.data, a.y.data, a.dy.data, a.dx.data, a.dresidual.data,
                                           affine.gamma, affine.beta, affine.mean, affine.inv_std.inv_std});
  return with_width<T>(wide, [&](auto width) -> Status {
    constexpr int kWidth = decltype(width)::value;
    const Walk walk = walk_of(a.x.shape, kWidth);
    const auto left = [&](int number) { return factor<C>(a.scratch, a.x.shape, kWide<T>, kWidth, number); };
    const BackwardFactors<C> factors{left(0), left(1), left(2), left(3), {left(4), left(5)}};
    const GradientOf<T, kMask> gradient{a.x.template as<T>(), a.y.template as<T>(), a.dy.template as<T>()};
    auto* const partial = static_cast<double*>(a.scratch);
    T *const dx = a.dx.template as<T>(), *const dresidual = a.dresidual.template as<T>();
    const bool early = kMask == Mask::from_y && dx && dresidual && a.dresidual_write == Write::assign;
    Status sums = launch_sums<kWidth>(
        q, walk, GradientSumsOf<T, kMask>{gradient, affine, early ? dresidual : nullptr}, partial);
    if (!sums.ok()) return sums;
    Status finish = launch_finish(
        q, walk, kWidth, partial,
        FinishBackward<C>{affine, a.dgamma.template as<C>(), a.dbeta.template as<C>(), factors, a.param_write,
                          static_cast<double>(walk.rows), frozen, kMask == Mask::from_x});
    if (!finish.ok() || (!dx && !dresidual)) return finish;
    if (early)
      return launch_walk<kWidth>(
          q, walk,
          BackwardOf<T, Mask::none>{
              {gradient.x, nullptr, dresidual}, factors, dx, nullptr, a.dx_write, Write::assign});
    return launch_walk<kWidth>(
        q, walk, BackwardOf<T, kMask>{gradient, factors, dx, dresidual, a.dx_write, a.dresidual_write});
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
const FillCuda kMoments{channel_moments, &channel_moments_cuda, &moments_workspace};
const FillCuda kInference{batch_norm_inference, &inference_cuda};
const FillCuda kBackward{batch_norm_backward, &backward_cuda, &workspace_of<BatchNormBackward>};
const FillCuda kInferenceBackward{batch_norm_inference_backward, &inference_backward_cuda,
                                  &workspace_of<BatchNormInferenceBackward>};

}  // namespace
}  // namespace cairn::kernels
