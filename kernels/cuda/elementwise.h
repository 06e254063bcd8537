#pragma once
/// CUDA kernels of kernels/elementwise.h: 16 bytes an access where the arrays allow it.
/// Bytes: x once and y once; backward x, dy and dx once, dx once more with Write::add.
#include "kernels/cuda/device/elementwise.h"
#include "kernels/elementwise.h"

namespace cairn::kernels {

template <class F, class T>
struct ElementwiseForwardOf {
  F f;
  const T* x;  // [n]
  T* y;        // [n]
  template <int kWidth>
  __device__ void run(int64_t i) const {
    Values<kWidth, T> v = load_values<kWidth>(x + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] = f.forward(v.v[k]);
    land_values(y + i, v, Write::assign);
  }
};

template <class F, class T>
struct ElementwiseBackwardOf {
  F f;
  const T* x;   // [n]
  const T* dy;  // [n]
  T* dx;        // [n]
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Values<kWidth, T> v = load_values<kWidth>(x + i);
    Values<kWidth, T> g = load_values<kWidth>(dy + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) g.v[k] = f.backward(v.v[k], g.v[k]);
    land_values(dx + i, g, write);
  }
};

template <class F, class T>
Status elementwise_forward_cuda(const Queue& q, const ElementwiseForward<F>& a) {
  return launch_elementwise<16 / static_cast<int>(sizeof(T))>(
      static_cast<cudaStream_t>(q.stream), a.x.numel(), aligned_16({a.x.data, a.y.data}),
      ElementwiseForwardOf<F, T>{a.f, a.x.template as<T>(), a.y.template as<T>()});
}

template <class F, class T>
Status elementwise_backward_cuda(const Queue& q, const ElementwiseBackward<F>& a) {
  return launch_elementwise<16 / static_cast<int>(sizeof(T))>(
      static_cast<cudaStream_t>(q.stream), a.x.numel(), aligned_16({a.x.data, a.dy.data, a.dx.data}),
      ElementwiseBackwardOf<F, T>{a.f, a.x.template as<T>(), a.dy.template as<T>(), a.dx.template as<T>(),
                                  a.write});
}

template <class F>
struct FillElementwiseCuda {
  FillElementwiseCuda() {
    fill<float>();
    fill<__nv_bfloat16>();
    fill<__half>();
    fill<double>();
  }

 private:
  template <class T>
  void fill() {
    elementwise_forward<F>.fill(kCudaDevice, dtype_of<T>, &elementwise_forward_cuda<F, T>);
    elementwise_backward<F>.fill(kCudaDevice, dtype_of<T>, &elementwise_backward_cuda<F, T>);
  }
};

}  // namespace cairn::kernels
