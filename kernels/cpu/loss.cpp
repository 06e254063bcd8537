#include "kernels/loss.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

// The largest of x[0..n); a NaN wins.
template <class T>
ComputeOf<T> row_max(const T* x, std::int64_t n) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  auto m = hn::Set(d, -std::numeric_limits<C>::infinity());
  auto nan = hn::IsNaN(m);
  const std::int64_t w = lanes<T>();
  std::int64_t i = 0;
  for (; i + w <= n; i += w) {
    const auto v = load(d, x + i);
    nan = hn::Or(nan, hn::IsNaN(v));
    m = hn::Max(m, v);
  }
  if (!hn::AllFalse(d, nan)) return std::numeric_limits<C>::quiet_NaN();
  C max = hn::GetLane(hn::MaxOfLanes(d, m));
  for (; i < n; ++i) {
    const C v = to_compute(x[i]);
    if (v > max || v != v) max = v;
  }
  return max;
}

// exp(v) for v <= 0; NaN and -inf as they should be.
template <class D, class V>
HWY_INLINE V exp_nonpositive(D d, V v) {
  return hn::IfThenElse(hn::IsNaN(v), v, hn::Exp(d, v));
}

// e[i] = exp(x[i] - m); returns their sum, kept in double so that its error does not grow with n.
template <class T>
double row_exp(const T* x, ComputeOf<T> m, ComputeOf<T>* e, std::int64_t n) {
  const Tag<T> d;
  const auto vm = hn::Set(d, m);
  double sum = 0;
  auto partial = hn::Zero(d);
  for_each_vector(d, 0, n, [&](std::int64_t i, auto part) HWY_ATTR {
    const auto v = exp_nonpositive(d, hn::Sub(load(d, x + i, part), vm));
    store(d, v, e + i, part);
    if constexpr (std::is_same_v<decltype(part), Tail>) {
      for (std::int64_t k = 0; k < part.n; ++k) sum += static_cast<double>(e[i + k]);
    } else {
      partial = hn::Add(partial, v);
    }
  });
  return sum + static_cast<double>(hn::GetLane(hn::SumOfLanes(d, partial)));
}

template <class T>
void softmax_of(const Softmax& args) {
  using C = ComputeOf<T>;
  const std::int64_t classes = args.x.shape[args.x.shape.rank - 1];
  if (args.x.numel() == 0) return;
  parallel_for(args.x.numel() / classes, std::max<std::int64_t>(1, 4096 / classes),
               [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
                 const Tag<T> d;
                 for (std::int64_t n = begin; n < end; ++n) {
                   const T* x = args.x.as<T>() + n * classes;
                   C* y = args.y.as<C>() + n * classes;
                   const double sum = row_exp(x, row_max(x, classes), y, classes);
                   const auto inverse = hn::Set(d, static_cast<C>(1.0 / sum));
                   for_each_vector(d, 0, classes, [&](std::int64_t i, auto part) HWY_ATTR {
                     store(d, hn::Mul(inverse, load(d, y + i, part)), y + i, part);
                   });
                 }
               });
}

// One image's targets: up to two labels with their shares.
struct Target {
  std::int32_t label[2];
  double share[2];  // sums to 1
};
Target target_of(const SoftmaxCrossEntropy& a, std::int64_t n) {
  const std::int32_t first = a.labels.as<std::int32_t>()[n];
  if (!a.labels2) return {{first, first}, {1.0, 0.0}};
  const double lambda = static_cast<double>(a.lambda.as<float>()[n]);
  return {{first, a.labels2.as<std::int32_t>()[n]}, {lambda, 1.0 - lambda}};
}

// l_n, and the factors of its gradient dl/dz_k = scale * (p_k * sum_c t_c w_c - t_k w_k) * (focal factor).
template <class T>
double loss_row(const SoftmaxCrossEntropy& a, std::int64_t n, double total_weight) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  const std::int64_t classes = a.logits.shape[1];
  const T* z = a.logits.as<T>() + n * classes;
  const C* weights = a.class_weights.as<C>();
  const auto weight = [&](std::int64_t c) { return weights ? static_cast<double>(weights[c]) : 1.0; };
  const Target target = target_of(a, n);
  const double smooth = static_cast<double>(a.label_smoothing);
  const C max = row_max(z, classes);

  // exp(z - max) goes where the gradient will stand; without one it is only summed.
  C* const dz = a.dlogits ? a.dlogits.as<C>() + n * classes : nullptr;
  double sum = 0;
  if (dz) {
    sum = row_exp(z, max, dz, classes);
  } else {
    constexpr std::int64_t kChunk = 256;
    HWY_ALIGN C chunk[kChunk];
    for (std::int64_t i = 0; i < classes; i += kChunk)
      sum += row_exp(z + i, max, chunk, std::min(kChunk, classes - i));
  }
  const double log_sum = std::log(sum);
  const auto log_p = [&](std::int64_t c) {
    return static_cast<double>(to_compute(z[c])) - static_cast<double>(max) - log_sum;
  };

  double loss = 0, mass = 0;  // mass = sum_c t_c w_c
  for (int k = 0; k < 2; ++k) {
    if (target.share[k] == 0.0) continue;
    const double tw = (1.0 - smooth) * target.share[k] * weight(target.label[k]);
    loss -= tw * log_p(target.label[k]);
    mass += tw;
  }
  if (smooth > 0.0) {
    double uniform = 0, uniform_mass = 0;
    for (std::int64_t c = 0; c < classes; ++c) {
      uniform -= weight(c) * log_p(c);
      uniform_mass += weight(c);
    }
    loss += smooth / static_cast<double>(classes) * uniform;
    mass += smooth / static_cast<double>(classes) * uniform_mass;
  }

  double scale = 1.0 / total_weight;
  if (a.focal_gamma > 0.0f) {
    // l = w (1-q)^g (-log q), q = p_label: dl/dz_k = w ((1-q)^g - g (1-q)^(g-1) q log q) (p_k - [k = label]).
    // log q / (1-q) tends to -1 at q = 1.
    const double gamma = static_cast<double>(a.focal_gamma);
    const double log_q = log_p(target.label[0]), rest = -std::expm1(log_q);
    const double ratio = rest < 1e-8 ? -1.0 : log_q / rest;
    const double power = std::pow(rest, gamma);
    loss *= power;
    scale *= power - gamma * power * std::exp(log_q) * ratio;
  }
  if (!dz) return loss;

  const auto factor = hn::Set(d, static_cast<C>(scale * mass / sum));
  const C spread = static_cast<C>(scale * smooth / static_cast<double>(classes));
  for_each_vector(d, 0, classes, [&](std::int64_t i, auto part) HWY_ATTR {
    auto g = hn::Mul(factor, load(d, dz + i, part));
    if (spread > C(0)) {
      const auto s = hn::Set(d, spread);
      g = weights ? hn::NegMulAdd(s, load(d, weights + i, part), g) : hn::Sub(g, s);
    }
    store(d, g, dz + i, part);
  });
  for (int k = 0; k < 2; ++k) {
    if (target.share[k] == 0.0) continue;
    const auto label = static_cast<std::int64_t>(target.label[k]);
    dz[label] -= static_cast<C>(scale * (1.0 - smooth) * target.share[k] * weight(label));
  }
  return loss;
}

template <class T>
void softmax_cross_entropy_of(const SoftmaxCrossEntropy& a) {
  using C = ComputeOf<T>;
  const std::int64_t images = a.logits.shape[0], classes = a.logits.shape[1];
  double total_weight = static_cast<double>(images);
  if (a.class_weights) {
    total_weight = 0;
    for (std::int64_t n = 0; n < images; ++n) {
      const Target t = target_of(a, n);
      for (int k = 0; k < 2; ++k)
        total_weight += t.share[k] * static_cast<double>(a.class_weights.as<C>()[t.label[k]]);
    }
  }
  auto* const row_loss = static_cast<double*>(a.scratch);  // [N]
  parallel_for(images, std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(classes, 1)),
               [&](std::int64_t begin, std::int64_t end, int) {
                 for (std::int64_t n = begin; n < end; ++n) {
                   row_loss[n] = loss_row<T>(a, n, total_weight);
                   if (a.per_image) a.per_image.as<C>()[n] = static_cast<C>(row_loss[n]);
                 }
               });
  double total = 0;
  for (std::int64_t n = 0; n < images; ++n) total += row_loss[n];
  a.loss.as<C>()[0] = static_cast<C>(total / total_weight);
}

Status softmax_cpu(const Queue&, const Softmax& args) {
  with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) { softmax_of<T>(args); });
  return {};
}
Status softmax_cross_entropy_cpu(const Queue&, const SoftmaxCrossEntropy& args) {
  with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) { softmax_cross_entropy_of<T>(args); });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
std::size_t loss_scratch(const Queue&, const SoftmaxCrossEntropy& args) {
  return static_cast<std::size_t>(args.logits.shape[0]) * sizeof(double);
}
CAIRN_CPU_SIMD_FILL(softmax, softmax_cpu);
CAIRN_CPU_SIMD_FILL(softmax_cross_entropy, softmax_cross_entropy_cpu, &loss_scratch);
}  // namespace
}  // namespace cairn::kernels
#endif
