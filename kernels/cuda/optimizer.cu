// SGD, Adam and AdamW over all parameters at once, their moving average, and the search for values that are
// not finite; kernels/optimizer.h has the equations. Bytes a parameter in fp32: SGD 12 (p and g read, p
// written), with momentum 20 (b read and written too); Adam 28 (p, g, m, v read; p, m, v written); 2 more
// where a 16-bit shadow is written; the average 12; check_finite 4 (2). Limited by memory. What changes from
// step to step is read from device memory, so that a captured graph replays.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

// What both optimisers share: the parameters, their gradient's factor, and where the results go.
template <class T>
struct Parameters {
  T* p;                        // [n]
  const T* g;                  // [n]
  __nv_bfloat16* shadow_bf16;  // [n] or null
  __half* shadow_f16;          // [n] or null
  const StepScalars* scalars;  // [1]
  const float* grad_norm;      // [1] or null
  const int32_t* nonfinite;    // [1] or null
  float max_norm;
  float lr_scale;

  __device__ bool skip() const { return nonfinite && *nonfinite != 0; }
  __device__ float lr() const { return scalars->lr * lr_scale; }
  /// What every gradient is multiplied with: grad_scale * clip.
  __device__ T factor() const {
    const T scale = static_cast<T>(scalars->grad_scale);
    if (max_norm <= 0 || !grad_norm) return scale;
    const T clip = static_cast<T>(max_norm) / (scale * static_cast<T>(*grad_norm) + static_cast<T>(1e-6));
    return clip < T(1) ? scale * clip : scale;
  }
  template <int kWidth>
  __device__ void land(int64_t i, const Values<kWidth, T>& values) const {
    land_values(p + i, values, Write::assign);
    land_shadow(shadow_bf16, i, values);
    land_shadow(shadow_f16, i, values);
  }

 private:
  template <int kWidth, class S>
  __device__ static void land_shadow(S* shadow, int64_t i, const Values<kWidth, T>& values) {
    if (!shadow) return;
    Pack<kWidth, S> pack;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) pack.v[k] = from_float<S>(static_cast<float>(values.v[k]));
    store_pack(shadow + i, pack);
  }
};

template <class T>
struct SgdOf {
  Parameters<T> all;
  T* b;  // [n] or null
  T momentum, weight_decay;
  bool nesterov;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    if (all.skip()) return;
    const T factor = all.factor(), lr = static_cast<T>(all.lr());
    Values<kWidth, T> p = load_values<kWidth>(all.p + i), g = load_values<kWidth>(all.g + i), buffer{};
    if (b) buffer = load_values<kWidth>(b + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      T step = std::fma(weight_decay, p.v[k], factor * g.v[k]);
      if (b) {
        buffer.v[k] = std::fma(momentum, buffer.v[k], step);
        step = nesterov ? std::fma(momentum, buffer.v[k], step) : buffer.v[k];
      }
      p.v[k] = std::fma(-lr, step, p.v[k]);
    }
    if (b) land_values(b + i, buffer, Write::assign);
    all.land(i, p);
  }
};

template <class T>
struct AdamOf {
  Parameters<T> all;
  T* m;  // [n]
  T* v;  // [n]
  T beta1, beta2, rest1, rest2, eps, weight_decay;
  bool decoupled;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    if (all.skip()) return;
    const T factor = all.factor(), base_lr = static_cast<T>(all.lr());
    const T lr = base_lr / static_cast<T>(all.scalars->bias_correction1);
    const T root2 = T(1) / std::sqrt(static_cast<T>(all.scalars->bias_correction2));
    // Decoupled decay shrinks the parameter, the other kind goes into the gradient.
    const T keep = decoupled ? std::fma(-base_lr, weight_decay, T(1)) : T(1);
    const T decay = decoupled ? T(0) : weight_decay;
    Values<kWidth, T> p = load_values<kWidth>(all.p + i), mean = load_values<kWidth>(m + i),
                      square = load_values<kWidth>(v + i);
    const Values<kWidth, T> grad = load_values<kWidth>(all.g + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const T g = std::fma(decay, p.v[k], factor * grad.v[k]);
      mean.v[k] = std::fma(rest1, g, beta1 * mean.v[k]);
      square.v[k] = std::fma(rest2 * g, g, beta2 * square.v[k]);
      const T denominator = std::fma(std::sqrt(square.v[k]), root2, eps);
      p.v[k] = std::fma(-lr, mean.v[k] / denominator, keep * p.v[k]);
    }
    land_values(m + i, mean, Write::assign);
    land_values(v + i, square, Write::assign);
    all.land(i, p);
  }
};

template <class T>
struct EmaOf {
  T* average;                  // [n]
  const T* p;                  // [n]
  const StepScalars* scalars;  // [1]
  const int32_t* nonfinite;    // [1] or null
  T decay;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    if (nonfinite && *nonfinite != 0) return;
    const T t = static_cast<T>(scalars->step);
    const T ramp = (T(1) + t) / (T(10) + t);
    const T rest = T(1) - (decay < ramp ? decay : ramp);
    Values<kWidth, T> old = load_values<kWidth>(average + i);
    const Values<kWidth, T> now = load_values<kWidth>(p + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) old.v[k] = std::fma(rest, now.v[k] - old.v[k], old.v[k]);
    land_values(average + i, old, Write::assign);
  }
};

template <class T>
struct CheckFiniteOf {
  const T* x;     // [n]
  int32_t* flag;  // [1]
  Compute<T> largest;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Values<kWidth, T> values = load_values<kWidth>(x + i);
    int infinite = 0;  // summed up without a branch, or x is read in parts
#pragma unroll
    for (int k = 0; k < kWidth; ++k) infinite |= std::fabs(values.v[k]) <= largest ? 0 : 1;
    if (infinite != 0) atomicOr(flag, 1);  // rare, and in any order the same
  }
};

template <class T, class Args>
Parameters<T> parameters(const Args& a) {
  return {a.param.template as<T>(),
          a.grad.template as<T>(),
          a.shadow && a.shadow.dtype == DType::bf16 ? a.shadow.template as<__nv_bfloat16>() : nullptr,
          a.shadow && a.shadow.dtype == DType::f16 ? a.shadow.template as<__half>() : nullptr,
          a.scalars,
          a.grad_norm.template as<float>(),
          a.nonfinite.template as<int32_t>(),
          a.max_norm,
          a.lr_scale};
}

using P = Parameter;
constexpr int kParameterWidth = 16 / static_cast<int>(sizeof(P));

Status sgd_cuda(const Queue& q, const SgdStep& a) {
  const bool wide = aligned_16({a.param.data, a.grad.data, a.momentum_buffer.data, a.shadow.data});
  return launch_elementwise<kParameterWidth>(
      stream_of(q), a.param.numel(), wide,
      SgdOf<P>{parameters<P>(a), a.momentum_buffer.as<P>(), static_cast<P>(a.momentum),
               static_cast<P>(a.weight_decay), a.nesterov});
}

Status adam_cuda(const Queue& q, const AdamStep& a) {
  const bool wide = aligned_16({a.param.data, a.grad.data, a.exp_avg.data, a.exp_avg_sq.data, a.shadow.data});
  return launch_elementwise<kParameterWidth>(
      stream_of(q), a.param.numel(), wide,
      AdamOf<P>{parameters<P>(a), a.exp_avg.as<P>(), a.exp_avg_sq.as<P>(), static_cast<P>(a.beta1),
                static_cast<P>(a.beta2), P(1) - static_cast<P>(a.beta1), P(1) - static_cast<P>(a.beta2),
                static_cast<P>(a.eps), static_cast<P>(a.weight_decay), a.decoupled});
}

Status ema_cuda(const Queue& q, const EmaStep& a) {
  return launch_elementwise<kParameterWidth>(stream_of(q), a.average.numel(),
                                             aligned_16({a.average.data, a.param.data}),
                                             EmaOf<P>{a.average.as<P>(), a.param.as<P>(), a.scalars,
                                                      a.nonfinite.as<int32_t>(), static_cast<P>(a.decay)});
}

Status check_finite_cuda(const Queue& q, const CheckFinite& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_elementwise<16 / static_cast<int>(sizeof(T))>(
        stream_of(q), a.x.numel(), aligned_16({a.x.data}),
        CheckFiniteOf<T>{a.x.as<T>(), a.flag.as<int32_t>(), std::numeric_limits<Compute<T>>::max()});
  });
}

const FillCuda kSgd{sgd_step, &sgd_cuda, nullptr, kParameterDTypes};
const FillCuda kAdam{adam_step, &adam_cuda, nullptr, kParameterDTypes};
const FillCuda kEma{ema_step, &ema_cuda, nullptr, kParameterDTypes};
const FillCuda kCheckFinite{check_finite, &check_finite_cuda};

}  // namespace
}  // namespace cairn::kernels
