#include "kernels/pointwise.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pointwise.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "hwy/contrib/math/math-inl.h"
#include "kernels/cpu/axes.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

// f(i, part) over [0, n) on all threads; D's vectors. y is what f writes, `inputs` what it reads besides.
template <class D, class T, class F>
void elementwise(D d, T* y, std::int64_t n, Write write, std::initializer_list<const void*> inputs,
                 const F& f) {
  const bool streamed = worth_streaming(y, n, write, inputs);
  parallel_elements(n, [&](std::int64_t begin, std::int64_t end, int)
                           HWY_ATTR { for_each_vector(d, begin, end, streamed, f); });
}

// y = x < 0 ? 0 : x, which keeps a NaN (comparing false) and -0.
template <class T>
void relu_forward_of(const ReluForward& a) {
  const Tag<T> d;
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  elementwise(d, y, a.x.numel(), Write::assign, {x}, [&](std::int64_t i, auto part) HWY_ATTR {
    const auto v = load(d, x + i, part);
    store(d, hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v), y + i, part);
  });
}

template <class T>
void relu_backward_of(const ReluBackward& a) {
  const Tag<T> d;
  const T* y = a.y.as<T>();
  const T* dy = a.dy.as<T>();
  T* dx = a.dx.as<T>();
  elementwise(d, dx, a.y.numel(), a.write, {y, dy}, [&](std::int64_t i, auto part) HWY_ATTR {
    const auto passed = hn::Gt(load(d, y + i, part), hn::Zero(d));
    land(d, hn::IfThenElseZero(passed, load(d, dy + i, part)), dx + i, part, a.write);
  });
}

// Highway's functions hold inside their range; what lies outside it is put right here.
template <class D, class V>
HWY_INLINE V exp_all(D d, V x) {
  using C = hn::TFromD<D>;
  constexpr C kOverflow = sizeof(C) == 4 ? C(88.72284) : C(709.782712893384);
  const auto inf = hn::Set(d, std::numeric_limits<C>::infinity());
  const auto y = hn::Exp(d, hn::Min(x, hn::Set(d, kOverflow)));
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, kOverflow)), inf, hn::IfThenElse(hn::IsNaN(x), x, y));
}
template <class D, class V>
HWY_INLINE V log_all(D d, V x) {
  using C = hn::TFromD<D>;
  const auto inf = hn::Set(d, std::numeric_limits<C>::infinity());
  const auto zero = hn::Zero(d);
  auto y = hn::Log(d, x);
  y = hn::IfThenElse(hn::Eq(x, inf), inf, y);
  y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(inf), y);
  return hn::IfThenElse(hn::Or(hn::Lt(x, zero), hn::IsNaN(x)), hn::NaN(d), y);
}
template <class D, class V>
HWY_INLINE V tanh_all(D d, V x) {
  // 20: 1 - tanh(20) < 2^-53.
  const auto limit = hn::Set(d, hn::TFromD<D>(20));
  const auto y = hn::Tanh(d, hn::Min(hn::Max(x, hn::Neg(limit)), limit));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

template <class T>
void unary_forward_of(const UnaryForward& a) {
  const Tag<T> d;
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const auto one = hn::Set(d, 1);
  elementwise(d, y, a.x.numel(), Write::assign, {x}, [&](std::int64_t i, auto part) HWY_ATTR {
    auto v = load(d, x + i, part);
    switch (a.op) {
      case UnaryOp::exp:
        v = exp_all(d, v);
        break;
      case UnaryOp::log:
        v = log_all(d, v);
        break;
      case UnaryOp::sqrt:
        v = hn::Sqrt(v);
        break;
      case UnaryOp::sigmoid:
        v = hn::Div(one, hn::Add(one, exp_all(d, hn::Neg(v))));
        break;
      case UnaryOp::tanh:
        v = tanh_all(d, v);
        break;
    }
    store(d, v, y + i, part);
  });
}

template <class T>
void unary_backward_of(const UnaryBackward& a) {
  const Tag<T> d;
  const T* x = a.x.as<T>();
  const T* y = a.y.as<T>();
  const T* dy = a.dy.as<T>();
  T* dx = a.dx.as<T>();
  const auto one = hn::Set(d, 1);
  elementwise(d, dx, a.y.numel(), a.write, {x, y, dy}, [&](std::int64_t i, auto part) HWY_ATTR {
    auto g = load(d, dy + i, part);
    const auto v = load(d, y + i, part);
    switch (a.op) {
      case UnaryOp::exp:
        g = hn::Mul(g, v);
        break;
      case UnaryOp::log:
        g = hn::Div(g, load(d, x + i, part));
        break;
      case UnaryOp::sqrt:
        g = hn::Div(g, hn::Add(v, v));
        break;
      case UnaryOp::sigmoid:
        g = hn::Mul(g, hn::Mul(v, hn::Sub(one, v)));
        break;
      case UnaryOp::tanh:
        g = hn::Mul(g, hn::NegMulAdd(v, v, one));
        break;
    }
    land(d, g, dx + i, part, a.write);
  });
}

template <BinaryOp kOp, class V>
HWY_INLINE V apply(V a, V b) {
  if constexpr (kOp == BinaryOp::add) return hn::Add(a, b);
  if constexpr (kOp == BinaryOp::sub) return hn::Sub(a, b);
  if constexpr (kOp == BinaryOp::mul) return hn::Mul(a, b);
  if constexpr (kOp == BinaryOp::div) return hn::Div(a, b);
}

// y[0..n) of one row; step_a and step_b are 1, or 0 for an operand that stays the same along it.
template <BinaryOp kOp, class T>
void binary_row(const BinaryForward& args, const T* a, std::int64_t step_a, const T* b, std::int64_t step_b,
                T* y, std::int64_t n, bool streamed) {
  const Tag<T> d;
  const auto scale = hn::Set(d, static_cast<hn::TFromD<decltype(d)>>(args.scale));
  const auto finish = [&](std::int64_t i, auto va, auto vb, auto part)
                          HWY_ATTR { land(d, hn::Mul(scale, apply<kOp>(va, vb)), y + i, part, args.write); };
  if (step_a && step_b) {
    for_each_vector(d, 0, n, streamed, [&](std::int64_t i, auto part) HWY_ATTR {
      finish(i, load(d, a + i, part), load(d, b + i, part), part);
    });
  } else if (step_a) {
    const auto vb = hn::Set(d, to_compute(*b));
    for_each_vector(d, 0, n, streamed,
                    [&](std::int64_t i, auto part) HWY_ATTR { finish(i, load(d, a + i, part), vb, part); });
  } else {
    const auto va = hn::Set(d, to_compute(*a));
    for_each_vector(d, 0, n, streamed, [&](std::int64_t i, auto part) HWY_ATTR {
      finish(i, va, step_b ? load(d, b + i, part) : hn::Set(d, to_compute(*b)), part);
    });
  }
}

// Rows are the innermost merged axis: same shapes and scalars are one row, [..,C] with [C] is rows of C.
template <BinaryOp kOp, class T>
void binary_of(const BinaryForward& args) {
  const BroadcastAxes axes = broadcast_axes(args.a.shape, args.b.shape, args.y.shape);
  const std::int64_t length = axes.length[axes.count - 1];
  const std::int64_t step_a = axes.step_a[axes.count - 1], step_b = axes.step_b[axes.count - 1];
  // Short rows would wait for their stores one by one.
  const bool streamed = axes.count == 1 && worth_streaming(args.y.as<T>(), args.y.numel(), args.write,
                                                           {args.a.data, args.b.data});
  parallel_elements(args.y.numel(), [&](std::int64_t begin, std::int64_t end, int) {
    while (begin < end) {
      const std::int64_t column = begin % length;
      const std::int64_t n = std::min(end - begin, length - column);
      const auto [row_a, row_b] = axes.row_offsets(begin / length);
      binary_row<kOp>(args, args.a.as<T>() + row_a + column * step_a, step_a,
                      args.b.as<T>() + row_b + column * step_b, step_b, args.y.as<T>() + begin, n, streamed);
      begin += n;
    }
  });
}

template <class T>
void binary_any(const BinaryForward& args) {
  switch (args.op) {
    case BinaryOp::add:
      return binary_of<BinaryOp::add, T>(args);
    case BinaryOp::sub:
      return binary_of<BinaryOp::sub, T>(args);
    case BinaryOp::mul:
      return binary_of<BinaryOp::mul, T>(args);
    case BinaryOp::div:
      return binary_of<BinaryOp::div, T>(args);
  }
}

template <class T>
void affine_of(const Affine& a) {
  const Tag<T> d;
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const auto scale = hn::Set(d, a.scale), shift = hn::Set(d, a.shift);
  elementwise(d, y, a.x.numel(), a.write, {x}, [&](std::int64_t i, auto part) HWY_ATTR {
    land(d, hn::MulAdd(scale, load(d, x + i, part), shift), y + i, part, a.write);
  });
}

Status relu_forward_cpu(const Queue&, const ReluForward& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { relu_forward_of<T>(a); });
  return {};
}
Status relu_backward_cpu(const Queue&, const ReluBackward& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { relu_backward_of<T>(a); });
  return {};
}
Status unary_forward_cpu(const Queue&, const UnaryForward& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { unary_forward_of<T>(a); });
  return {};
}
Status unary_backward_cpu(const Queue&, const UnaryBackward& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { unary_backward_of<T>(a); });
  return {};
}
Status binary_forward_cpu(const Queue&, const BinaryForward& a) {
  if (a.y.numel() == 0) return {};
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { binary_any<T>(a); });
  return {};
}
Status affine_cpu(const Queue&, const Affine& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { affine_of<T>(a); });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
CAIRN_CPU_SIMD_FILL(relu_forward, relu_forward_cpu);
CAIRN_CPU_SIMD_FILL(relu_backward, relu_backward_cpu);
CAIRN_CPU_SIMD_FILL(unary_forward, unary_forward_cpu);
CAIRN_CPU_SIMD_FILL(unary_backward, unary_backward_cpu);
CAIRN_CPU_SIMD_FILL(binary_forward, binary_forward_cpu);
CAIRN_CPU_SIMD_FILL(affine, affine_cpu);
}  // namespace
}  // namespace cairn::kernels
#endif
