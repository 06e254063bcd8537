// The transforms of winograd.cpp along one axis: get(i) -> vector, put(i, vector).
// Cook-Toom at the points 0, +-a, +-b and infinity. a = 5/8, b = 3/2 (as oneDNN 2.6 has them) err a third as
// much as the usual 1 and 2, whose A^T holds an 8; their squares and products are exact.

// Included once a target, as simd.h.
#if defined(CAIRN_KERNELS_CPU_WINOGRAD_AXIS_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_KERNELS_CPU_WINOGRAD_AXIS_H_
#undef CAIRN_KERNELS_CPU_WINOGRAD_AXIS_H_
#else
#define CAIRN_KERNELS_CPU_WINOGRAD_AXIS_H_
#endif

#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr float kA = 0.625f, kB = 1.5f, kA2 = kA * kA, kB2 = kB * kB;
constexpr float kA2B2 = kA2 * kB2, kA2PlusB2 = kA2 + kB2;
constexpr double kGa = 1 / (2.0 * kA2 * (kA2 - kB2)), kGb = 1 / (2.0 * kB2 * (kB2 - kA2)), kG0 = 1.0 / kA2B2;

HWY_INLINE V constant(double v) { return hn::Set(D(), static_cast<float>(v)); }

/// B^T, 6 -> 6
template <class Get, class Put>
HWY_INLINE void input_axis(Get&& get, Put&& put) {
  const V a2 = constant(kA2), b2 = constant(kB2), a2b2 = constant(kA2B2), sum = constant(kA2PlusB2);
  const V d0 = get(0), d1 = get(1), d2 = get(2), d3 = get(3), d4 = get(4), d5 = get(5);
  const V even_a = hn::NegMulAdd(b2, d2, d4), odd_a = hn::Mul(constant(kA), hn::NegMulAdd(b2, d1, d3));
  const V even_b = hn::NegMulAdd(a2, d2, d4), odd_b = hn::Mul(constant(kB), hn::NegMulAdd(a2, d1, d3));
  put(0, hn::MulAdd(a2b2, d0, hn::NegMulAdd(sum, d2, d4)));
  put(1, hn::Add(even_a, odd_a));
  put(2, hn::Sub(even_a, odd_a));
  put(3, hn::Add(even_b, odd_b));
  put(4, hn::Sub(even_b, odd_b));
  put(5, hn::MulAdd(a2b2, d1, hn::NegMulAdd(sum, d3, d5)));
}

/// A^T, 6 -> 4
template <class Get, class Put>
HWY_INLINE void output_axis(Get&& get, Put&& put) {
  const V m0 = get(0), m1 = get(1), m2 = get(2), m3 = get(3), m4 = get(4), m5 = get(5);
  const V even_a = hn::Add(m1, m2), odd_a = hn::Sub(m1, m2), even_b = hn::Add(m3, m4),
          odd_b = hn::Sub(m3, m4);
  put(0, hn::Add(m0, hn::Add(even_a, even_b)));
  put(1, hn::MulAdd(constant(kA), odd_a, hn::Mul(constant(kB), odd_b)));
  put(2, hn::MulAdd(constant(kA2), even_a, hn::Mul(constant(kB2), even_b)));
  put(3, hn::MulAdd(constant(kA * kA2), odd_a, hn::MulAdd(constant(kB * kB2), odd_b, m5)));
}

/// A, 4 -> 6
template <class Get, class Put>
HWY_INLINE void output_axis_adjoint(Get&& get, Put&& put) {
  const V y0 = get(0), y1 = get(1), y2 = get(2), y3 = get(3);
  const V even_a = hn::MulAdd(constant(kA2), y2, y0), even_b = hn::MulAdd(constant(kB2), y2, y0);
  const V odd_a = hn::MulAdd(constant(kA), y1, hn::Mul(constant(kA * kA2), y3));
  const V odd_b = hn::MulAdd(constant(kB), y1, hn::Mul(constant(kB * kB2), y3));
  put(0, y0);
  put(1, hn::Add(even_a, odd_a));
  put(2, hn::Sub(even_a, odd_a));
  put(3, hn::Add(even_b, odd_b));
  put(4, hn::Sub(even_b, odd_b));
  put(5, y3);
}

/// G, 3 -> 6
template <class Get, class Put>
HWY_INLINE void filter_axis(Get&& get, Put&& put) {
  const V g0 = get(0), g1 = get(1), g2 = get(2);
  const V even_a = hn::MulAdd(constant(kGa), g0, hn::Mul(constant(kGa * kA2), g2));
  const V even_b = hn::MulAdd(constant(kGb), g0, hn::Mul(constant(kGb * kB2), g2));
  const V odd_a = hn::Mul(constant(kGa * kA), g1), odd_b = hn::Mul(constant(kGb * kB), g1);
  put(0, hn::Mul(constant(kG0), g0));
  put(1, hn::Add(even_a, odd_a));
  put(2, hn::Sub(even_a, odd_a));
  put(3, hn::Add(even_b, odd_b));
  put(4, hn::Sub(even_b, odd_b));
  put(5, g2);
}

/// G^T, 6 -> 3
template <class Get, class Put>
HWY_INLINE void filter_axis_adjoint(Get&& get, Put&& put) {
  const V u0 = get(0), u1 = get(1), u2 = get(2), u3 = get(3), u4 = get(4), u5 = get(5);
  const V even_a = hn::Add(u1, u2), odd_a = hn::Sub(u1, u2), even_b = hn::Add(u3, u4),
          odd_b = hn::Sub(u3, u4);
  put(0, hn::MulAdd(constant(kG0), u0, hn::MulAdd(constant(kGa), even_a, hn::Mul(constant(kGb), even_b))));
  put(1, hn::MulAdd(constant(kGa * kA), odd_a, hn::Mul(constant(kGb * kB), odd_b)));
  put(2, hn::MulAdd(constant(kGa * kA2), even_a, hn::MulAdd(constant(kGb * kB2), even_b, u5)));
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
