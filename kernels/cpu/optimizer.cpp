#include "kernels/optimizer.h"

#include <atomic>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

// What every gradient is multiplied with: grad_scale * clip.
double gradient_factor(const StepScalars& s, const ConstView& grad_norm, float max_norm) {
  double factor = static_cast<double>(s.grad_scale);
  if (max_norm > 0 && grad_norm) {
    const double norm = factor * static_cast<double>(grad_norm.as<float>()[0]);
    factor *= std::min(1.0, static_cast<double>(max_norm) / (norm + 1e-6));
  }
  return factor;
}
bool skip_step(const ConstView& nonfinite) { return nonfinite && nonfinite.as<std::int32_t>()[0] != 0; }

// New parameters and their rounded copy.
template <class T, class Part>
HWY_INLINE void store_param(hn::Vec<Tag<T>> v, T* p, const View& shadow, std::int64_t i, Part part) {
  const Tag<T> d;
  store(d, v, p + i, part);
  if constexpr (std::is_same_v<T, float>) {
    if (!shadow) return;
    if (shadow.dtype == DType::bf16) {
      store(d, v, shadow.as<BFloat16>() + i, part);
    } else {
      std::int64_t n = lanes<T>();
      if constexpr (std::is_same_v<Part, Tail>) n = part.n;
      for (std::int64_t k = 0; k < n; ++k) shadow.as<Float16>()[i + k] = Float16(p[i + k]);
    }
  }
}

template <class T>
void sgd_of(const SgdStep& a) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  T* p = a.param.as<T>();
  const T* g = a.grad.as<T>();
  T* b = a.momentum_buffer.as<T>();
  const auto factor = hn::Set(d, static_cast<C>(gradient_factor(*a.scalars, a.grad_norm, a.max_norm)));
  const auto decay = hn::Set(d, static_cast<C>(a.weight_decay));
  const auto momentum = hn::Set(d, static_cast<C>(a.momentum));
  const auto lr = hn::Set(d, static_cast<C>(a.scalars->lr * a.lr_scale));
  parallel_elements(a.param.numel(), [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
    for_each_vector(d, begin, end, [&](std::int64_t i, auto part) HWY_ATTR {
      const auto vp = load(d, p + i, part);
      auto vg = hn::MulAdd(decay, vp, hn::Mul(factor, load(d, g + i, part)));
      if (b) {
        const auto vb = hn::MulAdd(momentum, load(d, b + i, part), vg);
        store(d, vb, b + i, part);
        vg = a.nesterov ? hn::MulAdd(momentum, vb, vg) : vb;
      }
      store_param<T>(hn::NegMulAdd(lr, vg, vp), p, a.shadow, i, part);
    });
  });
}

template <class T>
void adam_of(const AdamStep& a) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  T* p = a.param.as<T>();
  const T* g = a.grad.as<T>();
  T* m = a.exp_avg.as<T>();
  T* v = a.exp_avg_sq.as<T>();
  const StepScalars& s = *a.scalars;
  const auto wide = [](float x) { return static_cast<double>(x); };
  const float base_lr = s.lr * a.lr_scale;
  const auto factor = hn::Set(d, static_cast<C>(gradient_factor(s, a.grad_norm, a.max_norm)));
  const auto beta1 = hn::Set(d, static_cast<C>(a.beta1)), beta2 = hn::Set(d, static_cast<C>(a.beta2));
  const auto rest1 = hn::Set(d, static_cast<C>(1.0 - wide(a.beta1)));
  const auto rest2 = hn::Set(d, static_cast<C>(1.0 - wide(a.beta2)));
  const auto eps = hn::Set(d, static_cast<C>(a.eps));
  const auto lr = hn::Set(d, static_cast<C>(wide(base_lr) / wide(s.bias_correction1)));
  const auto root2 = hn::Set(d, static_cast<C>(1.0 / std::sqrt(wide(s.bias_correction2))));
  // Decoupled decay shrinks the parameter, the other kind goes into the gradient.
  const auto keep =
      hn::Set(d, static_cast<C>(a.decoupled ? 1.0 - wide(base_lr) * wide(a.weight_decay) : 1.0));
  const auto decay = hn::Set(d, static_cast<C>(a.decoupled ? 0.0f : a.weight_decay));
  parallel_elements(a.param.numel(), [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
    for_each_vector(d, begin, end, [&](std::int64_t i, auto part) HWY_ATTR {
      const auto old = load(d, p + i, part);
      const auto vg = hn::MulAdd(decay, old, hn::Mul(factor, load(d, g + i, part)));
      const auto vm = hn::MulAdd(rest1, vg, hn::Mul(beta1, load(d, m + i, part)));
      const auto vv = hn::MulAdd(hn::Mul(rest2, vg), vg, hn::Mul(beta2, load(d, v + i, part)));
      store(d, vm, m + i, part);
      store(d, vv, v + i, part);
      const auto denominator = hn::MulAdd(hn::Sqrt(vv), root2, eps);
      store_param<T>(hn::NegMulAdd(lr, hn::Div(vm, denominator), hn::Mul(keep, old)), p, a.shadow, i, part);
    });
  });
}

template <class T>
void ema_of(const EmaStep& a) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  T* average = a.average.as<T>();
  const T* p = a.param.as<T>();
  const C t = static_cast<C>(a.scalars->step);
  const auto rest = hn::Set(d, C(1) - std::min(static_cast<C>(a.decay), (C(1) + t) / (C(10) + t)));
  parallel_elements(a.average.numel(), [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
    for_each_vector(d, begin, end, [&](std::int64_t i, auto part) HWY_ATTR {
      const auto old = load(d, average + i, part);
      store(d, hn::MulAdd(rest, hn::Sub(load(d, p + i, part), old), old), average + i, part);
    });
  });
}

template <class T>
bool all_finite(const T* x, std::int64_t begin, std::int64_t end) {
  const Tag<T> d;
  const auto max = hn::Set(d, std::numeric_limits<ComputeOf<T>>::max());
  constexpr std::int64_t kBlock = 4096;  // looks at the result this often
  for (std::int64_t block = begin; block < end; block += kBlock) {
    auto finite = hn::Eq(max, max);
    for_each_vector(d, block, std::min(end, block + kBlock), [&](std::int64_t i, auto part) HWY_ATTR {
      finite = hn::And(finite, hn::Le(hn::Abs(load(d, x + i, part)), max));
    });
    if (!hn::AllTrue(d, finite)) return false;
  }
  return true;
}

Status sgd_cpu(const Queue&, const SgdStep& a) {
  if (skip_step(a.nonfinite)) return {};
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (!std::is_same_v<T, BFloat16>) sgd_of<T>(a);
  });
  return {};
}
Status adam_cpu(const Queue&, const AdamStep& a) {
  if (skip_step(a.nonfinite)) return {};
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (!std::is_same_v<T, BFloat16>) adam_of<T>(a);
  });
  return {};
}
Status ema_cpu(const Queue&, const EmaStep& a) {
  if (skip_step(a.nonfinite)) return {};
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    if constexpr (!std::is_same_v<T, BFloat16>) ema_of<T>(a);
  });
  return {};
}
Status check_finite_cpu(const Queue&, const CheckFinite& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    parallel_elements(a.x.numel(), [&](std::int64_t begin, std::int64_t end, int) {
      if (!all_finite(a.x.as<T>(), begin, end))
        std::atomic_ref(*a.flag.as<std::int32_t>()).store(1, std::memory_order_relaxed);
    });
  });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
// Parameters are fp32 whatever the compute dtype is: bf16 ones have their fp32 master here and a shadow.
CAIRN_CPU_SIMD_FILL(sgd_step, sgd_cpu, nullptr, kParameterDTypes);
CAIRN_CPU_SIMD_FILL(adam_step, adam_cpu, nullptr, kParameterDTypes);
CAIRN_CPU_SIMD_FILL(ema_step, ema_cpu, nullptr, kParameterDTypes);
CAIRN_CPU_SIMD_FILL(check_finite, check_finite_cpu);
}  // namespace
}  // namespace cairn::kernels
#endif
