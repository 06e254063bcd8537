// Elementwise ops of kernels/pointwise.h, y = f(a, b, ...) in float.
// Bytes: each operand once and the result once; with Write::add the result once more. An operand that is
// repeated by broadcasting is read from the caches. Limited by memory: at most 20 operations an element (exp,
// log, tanh) to at least 4 bytes.
#include "kernels/pointwise.h"

#include <cmath>

#include "kernels/axes.h"
#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

template <class T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));

// y = x < 0 ? 0 : x, which keeps a NaN (comparing false) and -0.
template <class T>
struct ReluForwardOf {
  const T* x;  // [n]
  T* y;        // [n]
  template <int kWidth>
  __device__ void run(int64_t i) const {
    Values<kWidth, T> v = load_values<kWidth>(x + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] = v.v[k] < Compute<T>(0) ? Compute<T>(0) : v.v[k];
    land_values(y + i, v, Write::assign);
  }
};

template <class T>
struct ReluBackwardOf {
  const T* y;   // [n]
  const T* dy;  // [n]
  T* dx;        // [n]
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Values<kWidth, T> v = load_values<kWidth>(y + i);
    Values<kWidth, T> g = load_values<kWidth>(dy + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) g.v[k] = v.v[k] > Compute<T>(0) ? g.v[k] : Compute<T>(0);
    land_values(dx + i, g, write);
  }
};

template <class C>
__device__ __forceinline__ C unary_value(UnaryOp op, C v) {
  switch (op) {
    case UnaryOp::exp:
      return std::exp(v);
    case UnaryOp::log:
      return std::log(v);
    case UnaryOp::sqrt:
      return std::sqrt(v);
    case UnaryOp::sigmoid:
      return C(1) / (C(1) + std::exp(-v));
    case UnaryOp::tanh:
      return std::tanh(v);
  }
  return v;
}

template <class T>
struct UnaryForwardOf {
  UnaryOp op;
  const T* x;  // [n]
  T* y;        // [n]
  template <int kWidth>
  __device__ void run(int64_t i) const {
    Values<kWidth, T> v = load_values<kWidth>(x + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] = unary_value(op, v.v[k]);
    land_values(y + i, v, Write::assign);
  }
};

// g * op'(x), v = log ? x : y.
template <class C>
__device__ __forceinline__ C unary_gradient(UnaryOp op, C v, C g) {
  switch (op) {
    case UnaryOp::exp:
      return g * v;
    case UnaryOp::log:
      return g / v;
    case UnaryOp::sqrt:
      return g / (v + v);
    case UnaryOp::sigmoid:
      return g * (v * (C(1) - v));
    case UnaryOp::tanh:
      return g * std::fma(-v, v, C(1));
  }
  return g;
}

template <class T>
struct UnaryBackwardOf {
  UnaryOp op;
  const T* v;   // [n]: x for log, else y
  const T* dy;  // [n]
  T* dx;        // [n]
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const Values<kWidth, T> at = load_values<kWidth>(v + i);
    Values<kWidth, T> g = load_values<kWidth>(dy + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) g.v[k] = unary_gradient(op, at.v[k], g.v[k]);
    land_values(dx + i, g, write);
  }
};

template <class C>
__device__ __forceinline__ C binary_value(BinaryOp op, C a, C b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
  }
  return a;
}

// kWidth elements of an operand along the innermost axis, in which it steps by 1 or stays.
template <int kWidth, class T>
__device__ __forceinline__ Values<kWidth, T> load_along(const T* p, bool steps) {
  if (steps) return load_values<kWidth>(p);
  const Compute<T> one = to_float(*p);
  Values<kWidth, T> out;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) out.v[k] = one;
  return out;
}

// A group of elements lies in one row (the innermost merged axis): the launcher sees to it.
template <class T>
struct BinaryOf {
  BinaryOp op;
  const T* a;
  const T* b;
  T* y;  // [n]
  Compute<T> scale;
  Write write;
  BroadcastAxes axes;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const int inner = axes.count - 1;
    int64_t at_a = i, at_b = i;
    if (inner > 0) {
      int64_t row = i / axes.length[inner];
      const int64_t column = i - row * axes.length[inner];
      at_a = column * axes.step_a[inner];
      at_b = column * axes.step_b[inner];
#pragma unroll
      for (int k = kMaxRank - 2; k >= 0; --k) {
        if (k >= inner) continue;
        const int64_t next = row / axes.length[k], index = row - next * axes.length[k];
        at_a += index * axes.step_a[k];
        at_b += index * axes.step_b[k];
        row = next;
      }
    } else {
      at_a *= axes.step_a[0];
      at_b *= axes.step_b[0];
    }
    Values<kWidth, T> v = load_along<kWidth>(a + at_a, axes.step_a[inner] != 0);
    const Values<kWidth, T> w = load_along<kWidth>(b + at_b, axes.step_b[inner] != 0);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] = scale * binary_value(op, v.v[k], w.v[k]);
    land_values(y + i, v, write);
  }
};

template <class T>
struct AffineOf {
  const T* x;  // [n]
  T* y;        // [n]
  Compute<T> scale, shift;
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    Values<kWidth, T> v = load_values<kWidth>(x + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] = std::fma(scale, v.v[k], shift);
    land_values(y + i, v, write);
  }
};

Status relu_forward_cuda(const Queue& q, const ReluForward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_elementwise<kWide<T>>(stream_of(q), a.y.numel(), aligned_16({a.x.data, a.y.data}),
                                        ReluForwardOf<T>{a.x.as<T>(), a.y.as<T>()});
  });
}

Status relu_backward_cuda(const Queue& q, const ReluBackward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_elementwise<kWide<T>>(stream_of(q), a.dx.numel(),
                                        aligned_16({a.y.data, a.dy.data, a.dx.data}),
                                        ReluBackwardOf<T>{a.y.as<T>(), a.dy.as<T>(), a.dx.as<T>(), a.write});
  });
}

Status unary_forward_cuda(const Queue& q, const UnaryForward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_elementwise<kWide<T>>(stream_of(q), a.y.numel(), aligned_16({a.x.data, a.y.data}),
                                        UnaryForwardOf<T>{a.op, a.x.as<T>(), a.y.as<T>()});
  });
}

Status unary_backward_cuda(const Queue& q, const UnaryBackward& a) {
  const ConstView& v = a.op == UnaryOp::log ? a.x : a.y;
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_elementwise<kWide<T>>(
        stream_of(q), a.dx.numel(), aligned_16({v.data, a.dy.data, a.dx.data}),
        UnaryBackwardOf<T>{a.op, v.as<T>(), a.dy.as<T>(), a.dx.as<T>(), a.write});
  });
}

Status binary_forward_cuda(const Queue& q, const BinaryForward& a) {
  if (a.y.numel() == 0) return {};
  const BroadcastAxes axes = broadcast_axes(a.a.shape, a.b.shape, a.y.shape);
  const int inner = axes.count - 1;
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    // An operand that stays the same along a row is read element by element, wherever it lies.
    const bool wide = aligned(a.y.data, 16) && (axes.step_a[inner] == 0 || aligned(a.a.data, 16)) &&
                      (axes.step_b[inner] == 0 || aligned(a.b.data, 16)) &&
                      (axes.count == 1 || axes.length[inner] % kWide<T> == 0);
    return launch_elementwise<kWide<T>>(stream_of(q), a.y.numel(), wide,
                                        BinaryOf<T>{a.op, a.a.as<T>(), a.b.as<T>(), a.y.as<T>(),
                                                    static_cast<Compute<T>>(a.scale), a.write, axes});
  });
}

Status affine_cuda(const Queue& q, const Affine& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    return launch_elementwise<kWide<T>>(
        stream_of(q), a.y.numel(), aligned_16({a.x.data, a.y.data}),
        AffineOf<T>{a.x.as<T>(), a.y.as<T>(), static_cast<Compute<T>>(a.scale),
                    static_cast<Compute<T>>(a.shift), a.write});
  });
}

const FillCuda kReluForward{relu_forward, &relu_forward_cuda};
const FillCuda kReluBackward{relu_backward, &relu_backward_cuda};
const FillCuda kUnaryForward{unary_forward, &unary_forward_cuda};
const FillCuda kUnaryBackward{unary_backward, &unary_backward_cuda};
const FillCuda kBinaryForward{binary_forward, &binary_forward_cuda};
const FillCuda kAffine{affine, &affine_cuda};

}  // namespace
}  // namespace cairn::kernels
