#include "kernels/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/batch_norm.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

// y = act(gamma * (x - mean) * inv_std + beta + residual). A tensor is rows [M] of C channels. Forward: one
// pass of sums, one that applies; backward likewise. The passes walk rows and, within a few rows, channels:
// memory is read in its order, and the sums of one channel vector stay in registers for those rows.
//
// Sums: fp32 (fp64 for fp64) within kRows rows, fp64 beyond. The variance takes each block's squares about
// the block's own mean and the spread of the means in fp64, so a mean far larger than the deviation costs
// nothing. Threads take ranges of rows; their sums are added in order.

#ifndef CAIRN_KERNELS_CPU_BATCH_NORM_SHARED
#define CAIRN_KERNELS_CPU_BATCH_NORM_SHARED
namespace cairn::kernels {
namespace {

constexpr std::int64_t kRows = 8;         // rows whose vectors of one channel block are held in registers
constexpr std::int64_t kMaxLanes = 16;    // fp32 in 512 bits
constexpr std::int64_t kGrain = 1 << 14;  // elements worth a thread

/// Channels are walked in rows of `width`: C, or so many pixels that a row is a whole number of the widest
/// vectors. The last row may be shorter.
struct Layout {
  std::int64_t channels, pixels, width, padded, rows, rest;
  explicit Layout(const Shape& shape)
      : channels(shape[shape.rank - 1]), pixels(channels ? shape.numel() / channels : 0) {
    const bool wide = channels >= 4 * kMaxLanes;  // then a vector's tail is a small part of the row
    const std::int64_t group = wide || channels == 0 ? 1 : kMaxLanes / std::gcd(channels, kMaxLanes);
    width = group * channels;
    padded = (width + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
    rows = pixels / group;
    rest = pixels % group * channels;
  }
  std::int64_t grain() const { return (kGrain + width - 1) / std::max<std::int64_t>(width, 1); }
  int parts() const { return std::max(parallel_parts(rows, grain()), 1); }
};

/// Scratch: two fp64 sums per thread and channel, then `arrays` of per-channel factors.
constexpr std::int64_t kMaxArrays = 6;
std::size_t sums_bytes(const Layout& l) {
  return static_cast<std::size_t>(l.parts() * 2 * l.padded) * sizeof(double);
}
template <class Args>
std::size_t workspace_of(const Queue&, const Args& a) {
  const Layout l(a.x.shape);
  return sums_bytes(l) + static_cast<std::size_t>(kMaxArrays * l.padded) * sizeof(double);
}

/// The two sums of each channel over threads and the pixels of a row, in fixed order.
template <class F>
void for_each_total(const Layout& l, const double* sums, F&& f) {
  const int parts = l.parts();
  for (std::int64_t c = 0; c < l.channels; ++c) {
    double first = 0, second = 0;
    for (int part = 0; part < parts; ++part) {
      const double* s = sums + part * 2 * l.padded;
      for (std::int64_t i = c; i < l.width; i += l.channels) {
        first += s[i];
        second += s[l.padded + i];
      }
    }
    f(c, first, second);
  }
}

/// Repeats the first `channels` values over the row; the padding is 0.
template <class C>
void repeat(const Layout& l, C* values) {
  for (std::int64_t i = l.channels; i < l.padded; ++i)
    values[i] = i < l.width ? values[i - l.channels] : C(0);
}

/// y = fma(x, scale, shift): forward and the backward mask must compute the same bits from mean and inv_std.
template <class C>
void set_affine(const Layout& l, const C* gamma, const C* beta, const C* mean, const C* inv_std, C* scale,
                C* shift) {
  for (std::int64_t c = 0; c < l.channels; ++c) {
    scale[c] = gamma[c] * inv_std[c];
    shift[c] = std::fma(-mean[c], scale[c], beta[c]);
  }
  repeat(l, scale);
  repeat(l, shift);
}

enum class Mask { none, from_y, from_x };

}  // namespace
}  // namespace cairn::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

// ---- sums ----

template <class D>
using Wide = hn::Repartition<double, D>;

/// f(fp64 vector, offset) for v's lanes in fp64: once for doubles, for each half of a float vector.
template <class D, class F>
HWY_INLINE void in_double(D d, hn::Vec<D> v, hn::Vec<D> w, F&& f) {
  const Wide<D> d64;
  if constexpr (sizeof(hn::TFromD<D>) == 8) {
    f(v, w, std::int64_t{0});
  } else {
    const hn::Half<D> half;
    f(hn::PromoteTo(d64, hn::LowerHalf(half, v)), hn::PromoteTo(d64, hn::LowerHalf(half, w)),
      std::int64_t{0});
    f(hn::PromoteTo(d64, hn::UpperHalf(half, v)), hn::PromoteTo(d64, hn::UpperHalf(half, w)),
      static_cast<std::int64_t>(hn::Lanes(d64)));
  }
  (void)d;
}

/// sums[c] += v, sums[padded + c] += w.
template <class D>
HWY_INLINE void add_sums(D d, hn::Vec<D> v, hn::Vec<D> w, double* first, double* second) {
  const Wide<D> d64;
  in_double(d, v, w, [&](auto v64, auto w64, std::int64_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d64, first + i), v64), d64, first + i);
    hn::StoreU(hn::Add(hn::LoadU(d64, second + i), w64), d64, second + i);
  });
}

/// first += s; second += q + s^2 / n, with q the squares about the mean of the n values whose sum is s.
template <class D>
HWY_INLINE void add_moments(D d, hn::Vec<D> s, hn::Vec<D> q, double n, double* first, double* second) {
  const Wide<D> d64;
  const auto inverse = hn::Set(d64, 1.0 / n);
  in_double(d, s, q, [&](auto s64, auto q64, std::int64_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d64, first + i), s64), d64, first + i);
    const auto sum = hn::Add(hn::LoadU(d64, second + i), q64);
    hn::StoreU(hn::MulAdd(hn::Mul(s64, inverse), s64, sum), d64, second + i);
  });
}

/// Adds the moments of `rows` rows to sums [2][padded].
template <class T>
HWY_NOINLINE void add_row_moments(const T* x, std::int64_t rows, std::int64_t stride, std::int64_t width,
                                  double* first, double* second) {
  const Tag<T> d;
  std::int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) {
    const T* p = x + row * stride;
    const auto eighth = hn::Set(d, ComputeOf<T>(1) / ComputeOf<T>(kRows));
    for_each_vector(d, 0, width, [&](std::int64_t c, auto part) HWY_ATTR {
      const T* q = p + c;
      const auto v0 = load(d, q, part), v1 = load(d, q + stride, part);
      const auto v2 = load(d, q + 2 * stride, part), v3 = load(d, q + 3 * stride, part);
      const auto v4 = load(d, q + 4 * stride, part), v5 = load(d, q + 5 * stride, part);
      const auto v6 = load(d, q + 6 * stride, part), v7 = load(d, q + 7 * stride, part);
      const auto sum =
          hn::Add(hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)), hn::Add(hn::Add(v4, v5), hn::Add(v6, v7)));
      const auto mean = hn::Mul(sum, eighth);
      const auto e0 = hn::Sub(v0, mean), e1 = hn::Sub(v1, mean), e2 = hn::Sub(v2, mean);
      const auto e3 = hn::Sub(v3, mean), e4 = hn::Sub(v4, mean), e5 = hn::Sub(v5, mean);
      const auto e6 = hn::Sub(v6, mean), e7 = hn::Sub(v7, mean);
      const auto even = hn::MulAdd(e6, e6, hn::MulAdd(e4, e4, hn::MulAdd(e2, e2, hn::Mul(e0, e0))));
      const auto odd = hn::MulAdd(e7, e7, hn::MulAdd(e5, e5, hn::MulAdd(e3, e3, hn::Mul(e1, e1))));
      add_moments(d, sum, hn::Add(even, odd), static_cast<double>(kRows), first + c, second + c);
    });
  }
  for (; row < rows; ++row) {
    for_each_vector(d, 0, width, [&](std::int64_t c, auto part) HWY_ATTR {
      add_moments(d, load(d, x + row * stride + c, part), hn::Zero(d), 1.0, first + c, second + c);
    });
  }
}

/// Runs f(first row's offset in elements, rows, width, part) over each thread's rows, the short last row
/// included.
template <class F>
void for_each_range(const Layout& l, F&& f) {
  if (l.rows == 0) f(0, 1, l.rest, 0);
  parallel_for(l.rows, l.grain(), [&](std::int64_t begin, std::int64_t end, int part) {
    f(begin * l.width, end - begin, l.width, part);
    if (end == l.rows && l.rest > 0) f(end * l.width, 1, l.rest, part);
  });
}

/// Sums of each thread's part: zeroed, then body(offset, rows, width, first, second).
template <class F>
void gather_sums(const Layout& l, double* sums, F&& body) {
  std::fill_n(sums, l.parts() * 2 * l.padded, 0.0);
  for_each_range(l, [&](std::int64_t offset, std::int64_t rows, std::int64_t width, int part) {
    double* first = sums + part * 2 * l.padded;
    body(offset, rows, width, first, first + l.padded);
  });
}

// ---- forward ----

template <class T>
struct ApplyForward {
  const T* x;
  const T* residual;
  T* y;
  const ComputeOf<T>* scale;
  const ComputeOf<T>* shift;
};

template <class T, bool kResidual, bool kRelu>
HWY_NOINLINE void apply_rows(const ApplyForward<T>& a, std::int64_t offset, std::int64_t rows,
                             std::int64_t width) {
  const Tag<T> d;
  const auto zero = hn::Zero(d);
  for (std::int64_t row = 0; row < rows; ++row, offset += width) {
    for_each_vector(d, 0, width, [&](std::int64_t c, auto part) HWY_ATTR {
      auto v = hn::MulAdd(load(d, a.x + offset + c, part), load(d, a.scale + c), load(d, a.shift + c));
      if constexpr (kResidual) v = hn::Add(v, load(d, a.residual + offset + c, part));
      if constexpr (kRelu) v = hn::IfThenZeroElse(hn::Lt(v, zero), v);  // NaN stays
      store(d, v, a.y + offset + c, part);
    });
  }
}

template <class T>
void apply_forward(const Layout& l, const ApplyForward<T>& a, Activation activation) {
  const bool relu = activation == Activation::relu;
  for_each_range(l, [&](std::int64_t offset, std::int64_t rows, std::int64_t width, int) {
    if (a.residual && relu) apply_rows<T, true, true>(a, offset, rows, width);
    if (a.residual && !relu) apply_rows<T, true, false>(a, offset, rows, width);
    if (!a.residual && relu) apply_rows<T, false, true>(a, offset, rows, width);
    if (!a.residual && !relu) apply_rows<T, false, false>(a, offset, rows, width);
  });
}

template <class T>
void forward(const BatchNormForward& a) {
  using C = ComputeOf<T>;
  const Layout l(a.x.shape);
  auto* sums = static_cast<double*>(a.scratch);
  auto* scale = reinterpret_cast<C*>(sums + l.parts() * 2 * l.padded);
  C* shift = scale + l.padded;
  gather_sums(l, sums, [&](std::int64_t offset, std::int64_t rows, std::int64_t width, double* s, double* q) {
    add_row_moments(a.x.as<T>() + offset, rows, width, width, s, q);
  });
  const auto n = static_cast<double>(l.pixels);
  for_each_total(l, sums, [&](std::int64_t c, double sum, double squares) {
    const double mean = sum / n;
    const double var = std::max(squares / n - mean * mean, 0.0);
    a.mean.as<C>()[c] = static_cast<C>(mean);
    a.inv_std.as<C>()[c] = static_cast<C>(1.0 / std::sqrt(var + static_cast<double>(a.eps)));
    const double m = static_cast<double>(a.momentum);
    const auto update = [m](C& running, double value) {
      running = static_cast<C>((1 - m) * static_cast<double>(running) + m * value);
    };
    if (a.running_mean) update(a.running_mean.as<C>()[c], mean);
    if (a.running_var) update(a.running_var.as<C>()[c], var * n / std::max(n - 1, 1.0));
  });
  set_affine(l, a.gamma.as<C>(), a.beta.as<C>(), a.mean.as<C>(), a.inv_std.as<C>(), scale, shift);
  apply_forward<T>(l, {a.x.as<T>(), a.residual.as<T>(), a.y.as<T>(), scale, shift}, a.activation);
}

// The running statistics stand in for the batch's.
template <class C>
void set_inv_std(const Layout& l, const C* var, float eps, C* inv_std) {
  for (std::int64_t c = 0; c < l.channels; ++c)
    inv_std[c] = static_cast<C>(1.0 / std::sqrt(static_cast<double>(var[c]) + static_cast<double>(eps)));
}

template <class T>
void inference(const BatchNormInference& a) {
  using C = ComputeOf<T>;
  const Layout l(a.x.shape);
  C* scale = static_cast<C*>(a.scratch);
  C *shift = scale + l.padded, *inv_std = shift + l.padded;
  set_inv_std(l, a.running_var.as<C>(), a.eps, inv_std);
  set_affine(l, a.gamma.as<C>(), a.beta.as<C>(), a.running_mean.as<C>(), inv_std, scale, shift);
  apply_forward<T>(l, {a.x.as<T>(), a.residual.as<T>(), a.y.as<T>(), scale, shift}, a.activation);
}

// ---- backward ----

template <class T>
struct Backward {
  const T* x;
  const T* y;
  const T* dy;
  T* dx;         // may be absent
  T* dresidual;  // may be absent
  bool add_dx, add_dresidual;
  // Factors per channel: dx = a g + (b (x - mean) + c); fma(x, scale, shift) > 0 is the mask from x.
  ComputeOf<T>*mean, *scale, *shift, *a, *b, *c;
};

/// dy where the activation passed, else 0.
template <class T, Mask kMask, class Part>
HWY_INLINE Vec<T> masked(const Backward<T>& k, Vec<T> x, std::int64_t i, std::int64_t c, Part part) {
  const Tag<T> d;
  const auto dy = load(d, k.dy + i, part);
  if constexpr (kMask == Mask::from_y)
    return hn::IfThenElseZero(hn::Gt(load(d, k.y + i, part), hn::Zero(d)), dy);
  if constexpr (kMask == Mask::from_x)
    return hn::IfThenElseZero(hn::Gt(hn::MulAdd(x, load(d, k.scale + c), load(d, k.shift + c)), hn::Zero(d)),
                              dy);
  return dy;
}

/// first += sum g, second += sum g (x - mean); g is kept in `kept` if that is not null.
template <class T, Mask kMask, bool kKeep>
HWY_NOINLINE void add_gradient_sums(const Backward<T>& k, std::int64_t offset, std::int64_t rows,
                                    std::int64_t width, double* first, double* second) {
  const Tag<T> d;
  for (std::int64_t row = 0; row < rows;) {
    const std::int64_t block = std::min(kRows, rows - row);
    for_each_vector(d, 0, width, [&](std::int64_t c, auto part) HWY_ATTR {
      const auto mean = load(d, k.mean + c);
      auto sum = hn::Zero(d), product = hn::Zero(d);
      for (std::int64_t r = 0; r < block; ++r) {
        const std::int64_t i = offset + (row + r) * width + c;
        const auto x = load(d, k.x + i, part);
        const auto g = masked<T, kMask>(k, x, i, c, part);
        if constexpr (kKeep) store(d, g, k.dresidual + i, part);
        sum = hn::Add(sum, g);
        product = hn::MulAdd(g, hn::Sub(x, mean), product);
      }
      add_sums(d, sum, product, first + c, second + c);
    });
    row += block;
  }
}

template <class T, Mask kMask>
HWY_NOINLINE void apply_gradient(const Backward<T>& k, std::int64_t offset, std::int64_t rows,
                                 std::int64_t width) {
  const Tag<T> d;
  for (std::int64_t row = 0; row < rows; ++row, offset += width) {
    for_each_vector(d, 0, width, [&](std::int64_t c, auto part) HWY_ATTR {
      const std::int64_t i = offset + c;
      const auto x = load(d, k.x + i, part);
      const auto g = masked<T, kMask>(k, x, i, c, part);
      if (k.dresidual)
        store(d, k.add_dresidual ? hn::Add(load(d, k.dresidual + i, part), g) : g, k.dresidual + i, part);
      if (k.dx) {
        const auto centred = hn::Sub(x, load(d, k.mean + c));
        auto dx = hn::MulAdd(load(d, k.a + c), g, hn::MulAdd(load(d, k.b + c), centred, load(d, k.c + c)));
        if (k.add_dx) dx = hn::Add(dx, load(d, k.dx + i, part));
        store(d, dx, k.dx + i, part);
      }
    });
  }
}

template <class T>
void gather_gradient_sums(const Layout& l, const Backward<T>& k, Mask mask, bool keep, double* sums) {
  gather_sums(l, sums, [&](std::int64_t offset, std::int64_t rows, std::int64_t width, double* s, double* q) {
    if (mask == Mask::none) add_gradient_sums<T, Mask::none, false>(k, offset, rows, width, s, q);
    if (mask == Mask::from_x) add_gradient_sums<T, Mask::from_x, false>(k, offset, rows, width, s, q);
    if (mask == Mask::from_y && keep) add_gradient_sums<T, Mask::from_y, true>(k, offset, rows, width, s, q);
    if (mask == Mask::from_y && !keep)
      add_gradient_sums<T, Mask::from_y, false>(k, offset, rows, width, s, q);
  });
}

template <class T>
void apply_backward(const Layout& l, const Backward<T>& k, Mask mask) {
  if (!k.dx && !k.dresidual) return;
  for_each_range(l, [&](std::int64_t offset, std::int64_t rows, std::int64_t width, int) {
    if (mask == Mask::none) apply_gradient<T, Mask::none>(k, offset, rows, width);
    if (mask == Mask::from_y) apply_gradient<T, Mask::from_y>(k, offset, rows, width);
    if (mask == Mask::from_x) apply_gradient<T, Mask::from_x>(k, offset, rows, width);
  });
}

/// Lands dgamma and dbeta, and lets factors(c, sum g, sum g (x - mean)) set a, b and c.
template <class C, class Args, class F>
void land_parameters(const Layout& l, const Args& args, const double* sums, const C* inv_std, F&& factors) {
  const auto land = [&](const View& v, std::int64_t c, double value) {
    if (!v) return;
    C& out = v.as<C>()[c];
    out = static_cast<C>(args.param_write == Write::add ? static_cast<double>(out) + value : value);
  };
  for_each_total(l, sums, [&](std::int64_t c, double sum, double product) {
    land(args.dbeta, c, sum);
    land(args.dgamma, c, product * static_cast<double>(inv_std[c]));
    factors(c, sum, product);
  });
}

/// The kernel's view of the arguments; factors behind the sums in scratch.
template <class T, class Args>
Backward<T> backward_of(const Layout& l, const Args& a, double*& sums) {
  using C = ComputeOf<T>;
  sums = static_cast<double*>(a.scratch);
  auto* arrays = reinterpret_cast<C*>(sums + l.parts() * 2 * l.padded);
  Backward<T> k{a.x.template as<T>(),
                a.y.template as<T>(),
                a.dy.template as<T>(),
                a.dx.template as<T>(),
                a.dresidual.template as<T>(),
                a.dx_write == Write::add,
                a.dresidual_write == Write::add,
                arrays,
                arrays + l.padded,
                arrays + 2 * l.padded,
                arrays + 3 * l.padded,
                arrays + 4 * l.padded,
                arrays + 5 * l.padded};
  std::fill_n(arrays, kMaxArrays * l.padded, C(0));
  return k;
}

/// After g has been kept in dresidual, the second pass reads it from there.
template <class T>
Mask use_kept(Backward<T>& k) {
  k.dy = k.dresidual;
  k.dresidual = nullptr;
  return Mask::none;
}

template <class T>
void backward(const BatchNormBackward& args) {
  using C = ComputeOf<T>;
  const Layout l(args.x.shape);
  double* sums = nullptr;
  Backward<T> k = backward_of<T>(l, args, sums);
  const C* inv_std = args.inv_std.as<C>();
  const C* gamma = args.gamma.as<C>();
  std::copy_n(args.mean.as<C>(), l.channels, k.mean);
  repeat(l, k.mean);
  Mask mask = args.activation == Activation::none ? Mask::none : k.y ? Mask::from_y : Mask::from_x;
  if (mask == Mask::from_x)
    set_affine(l, gamma, args.beta.as<C>(), args.mean.as<C>(), inv_std, k.scale, k.shift);
  const bool keep = mask == Mask::from_y && k.dresidual && !k.add_dresidual;
  gather_gradient_sums(l, k, mask, keep, sums);
  if (keep) mask = use_kept(k);
  const auto n = static_cast<double>(l.pixels);
  land_parameters(l, args, sums, inv_std, [&](std::int64_t c, double sum, double product) {
    const double r = static_cast<double>(inv_std[c]), factor = static_cast<double>(gamma[c]) * r;
    k.a[c] = static_cast<C>(factor);
    k.b[c] = static_cast<C>(-factor * r * r * product / n);
    k.c[c] = static_cast<C>(-factor * sum / n);
  });
  for (C* v : {k.a, k.b, k.c}) repeat(l, v);
  apply_backward(l, k, mask);
}

template <class T>
void inference_backward(const BatchNormInferenceBackward& args) {
  using C = ComputeOf<T>;
  const Layout l(args.x.shape);
  double* sums = nullptr;
  Backward<T> k = backward_of<T>(l, args, sums);
  std::copy_n(args.running_mean.as<C>(), l.channels, k.mean);
  repeat(l, k.mean);
  C* inv_std = k.scale;  // the mask comes from y: scale and shift are free
  set_inv_std(l, args.running_var.as<C>(), args.eps, inv_std);
  const Mask mask = args.activation == Activation::none ? Mask::none : Mask::from_y;
  gather_gradient_sums(l, k, mask, false, sums);
  land_parameters(l, args, sums, inv_std,
                  [&](std::int64_t c, double, double) { k.a[c] = args.gamma.as<C>()[c] * inv_std[c]; });
  repeat(l, k.a);
  apply_backward(l, k, mask);
}

Status batch_norm_forward_cpu(const Queue&, const BatchNormForward& a) {
  if (a.x.numel() > 0) with_compute_type(a.dtype(), [&](auto t) { forward<typename decltype(t)::type>(a); });
  return {};
}
Status batch_norm_inference_cpu(const Queue&, const BatchNormInference& a) {
  if (a.x.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { inference<typename decltype(t)::type>(a); });
  return {};
}
Status batch_norm_backward_cpu(const Queue&, const BatchNormBackward& a) {
  if (a.x.numel() > 0) with_compute_type(a.dtype(), [&](auto t) { backward<typename decltype(t)::type>(a); });
  return {};
}
Status batch_norm_inference_backward_cpu(const Queue&, const BatchNormInferenceBackward& a) {
  if (a.x.numel() > 0)
    with_compute_type(a.dtype(), [&](auto t) { inference_backward<typename decltype(t)::type>(a); });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
CAIRN_CPU_SIMD_FILL(batch_norm_forward, batch_norm_forward_cpu, &workspace_of<BatchNormForward>);
CAIRN_CPU_SIMD_FILL(batch_norm_inference, batch_norm_inference_cpu, &workspace_of<BatchNormInference>);
CAIRN_CPU_SIMD_FILL(batch_norm_backward, batch_norm_backward_cpu, &workspace_of<BatchNormBackward>);
CAIRN_CPU_SIMD_FILL(batch_norm_inference_backward, batch_norm_inference_backward_cpu,
                    &workspace_of<BatchNormInferenceBackward>);
}  // namespace
}  // namespace cairn::kernels
#endif
