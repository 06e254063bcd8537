#pragma once
/// CPU kernels of kernels/elementwise.h. Plain loops that the compiler may vectorise; what wants more (a fast
/// exp) uses kernels/cpu/simd.h.
#include <type_traits>

#include "kernels/cpu/parallel.h"
#include "kernels/elementwise.h"

namespace cairn::kernels {

/// What a CPU kernel computes in for elements of T: float, and double for double alone (gradient checks).
template <class T>
using CpuCompute = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class F, class T>
Status elementwise_forward_cpu(const Queue&, const ElementwiseForward<F>& a) {
  using C = CpuCompute<T>;
  const T* x = a.x.template as<T>();
  T* y = a.y.template as<T>();
  parallel_elements(a.x.numel(), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<T>(a.f.forward(static_cast<C>(x[i])));
  });
  return {};
}

template <class F, class T>
Status elementwise_backward_cpu(const Queue&, const ElementwiseBackward<F>& a) {
  using C = CpuCompute<T>;
  const T* x = a.x.template as<T>();
  const T* dy = a.dy.template as<T>();
  T* dx = a.dx.template as<T>();
  parallel_elements(a.x.numel(), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const C g = a.f.backward(static_cast<C>(x[i]), static_cast<C>(dy[i]));
      dx[i] = static_cast<T>(a.write == Write::add ? static_cast<C>(dx[i]) + g : g);
    }
  });
  return {};
}

template <class F>
struct FillElementwiseCpu {
  FillElementwiseCpu() {
    fill<float>();
    fill<BFloat16>();
    fill<double>();
  }

 private:
  template <class T>
  void fill() {
    elementwise_forward<F>.fill(DeviceType::cpu, dtype_of<T>, &elementwise_forward_cpu<F, T>);
    elementwise_backward<F>.fill(DeviceType::cpu, dtype_of<T>, &elementwise_backward_cpu<F, T>);
  }
};

}  // namespace cairn::kernels
