// Vectors for CPU kernels: Highway with run-time dispatch. A kernel file reads
//
//   #undef HWY_TARGET_INCLUDE
//   #define HWY_TARGET_INCLUDE "kernels/cpu/relu.cpp"  // this file: compiled once a target
//   #include "kernels/cpu/simd_targets.h"
//   ... other includes, all before HWY_BEFORE_NAMESPACE: no library code is compiled for a target ...
//   #include "kernels/cpu/simd.h"
//
//   HWY_BEFORE_NAMESPACE();
//   namespace cairn::kernels::HWY_NAMESPACE {
//   namespace {
//   template <class T> void relu_range(const T* x, T* y, int64_t begin, int64_t end) { ... }
//   Status relu_forward_cpu(const Queue&, const ReluForward& a) { ... }
//   }  // namespace
//   }  // namespace cairn::kernels::HWY_NAMESPACE
//   HWY_AFTER_NAMESPACE();
//
//   #if HWY_ONCE
//   namespace cairn::kernels {
//   namespace {
//   CAIRN_CPU_SIMD_FILL(relu_forward, relu_forward_cpu);
//   }
//   }
//   #endif
//
// Lambdas that hold vector code carry HWY_ATTR behind their parameter list: pragmas do not reach them.

// Included once a target, so the guard is Highway's toggle and not #pragma once.
#if defined(CAIRN_KERNELS_CPU_SIMD_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_KERNELS_CPU_SIMD_H_
#undef CAIRN_KERNELS_CPU_SIMD_H_
#else
#define CAIRN_KERNELS_CPU_SIMD_H_
#endif

#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/view.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::int64_t kStreamBytes = std::int64_t{8} << 20;

/// What a kernel computes in: float for fp32, bf16 and fp16 storage, double for fp64.
template <class T>
struct ComputeOfT {
  using type = float;
};
template <>
struct ComputeOfT<double> {
  using type = double;
};
template <class T>
using ComputeOf = typename ComputeOfT<T>::type;

/// The vector type of T's compute type: Vec<T> v = load(Tag<T>(), p).
template <class T>
using Tag = hn::ScalableTag<ComputeOf<T>>;
template <class T>
using Vec = hn::Vec<Tag<T>>;
template <class T>
HWY_API std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
}

// ---- whole vectors, any alignment ----
template <class D>
HWY_API hn::Vec<D> load(D d, const hn::TFromD<D>* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_API hn::Vec<D> load(D d, const BFloat16* p) {
  const hn::Rebind<std::uint16_t, D> d16;
  const hn::Rebind<std::uint32_t, D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}

/// The bits of v rounded to bf16: nearest even, NaN stays NaN (as BFloat16's constructor).
template <class D>
HWY_API hn::Vec<hn::Rebind<std::uint16_t, D>> to_bf16_bits(D d, hn::Vec<D> v) {
  const hn::Rebind<std::uint16_t, D> d16;
  const hn::Rebind<std::uint32_t, D> d32;
  const auto u = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(d32, 1u));
  const auto rounded = hn::Add(hn::Add(u, hn::Set(d32, 0x7FFFu)), odd);
  const auto quiet = hn::Or(u, hn::Set(d32, 0x400000u));
  const auto chosen = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
  (void)d;
  return hn::TruncateTo(d16, hn::ShiftRight<16>(chosen));
}

template <class D>
HWY_API void store(D d, hn::Vec<D> v, hn::TFromD<D>* p) {
  hn::StoreU(v, d, p);
}
template <class D>
HWY_API void store(D d, hn::Vec<D> v, BFloat16* p) {
  hn::StoreU(to_bf16_bits(d, v), hn::Rebind<std::uint16_t, D>(), reinterpret_cast<std::uint16_t*>(p));
}

/// Stores past the caches: for outputs far larger than they are. p must be aligned to the stored vector;
/// hwy::FlushStream() follows the loop.
template <class D>
HWY_API void stream(D d, hn::Vec<D> v, hn::TFromD<D>* p) {
  hn::Stream(v, d, p);
}
template <class D>
HWY_API void stream(D d, hn::Vec<D> v, BFloat16* p) {
  hn::Stream(to_bf16_bits(d, v), hn::Rebind<std::uint16_t, D>(), reinterpret_cast<std::uint16_t*>(p));
}

// ---- the first n elements only (n < lanes): nothing beyond them is read or written; the rest loads as 0
// ----
template <class D, class T>
HWY_API hn::Vec<D> load_n(D d, const T* p, std::int64_t n) {
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(hn::TFromD<D>)] = {};
  std::memcpy(static_cast<void*>(buffer), p, static_cast<std::size_t>(n) * sizeof(T));
  return load(d, buffer);
}
template <class D, class T>
HWY_API void store_n(D d, hn::Vec<D> v, T* p, std::int64_t n) {
  HWY_ALIGN T buffer[HWY_MAX_BYTES / sizeof(hn::TFromD<D>)];
  store(d, v, buffer);
  std::memcpy(static_cast<void*>(p), buffer, static_cast<std::size_t>(n) * sizeof(T));
}

// ---- one loop body for whole vectors and the tail: for_each_vector calls f(i, part), and load and store
// take that part ----
struct Whole {};
struct Streamed {};  // a whole vector whose output bypasses the caches
struct Tail {
  std::int64_t n;
};
template <class D, class T>
HWY_API hn::Vec<D> load(D d, const T* p, Whole) {
  return load(d, p);
}
template <class D, class T>
HWY_API hn::Vec<D> load(D d, const T* p, Streamed) {
  return load(d, p);
}
template <class D, class T>
HWY_API hn::Vec<D> load(D d, const T* p, Tail tail) {
  return load_n(d, p, tail.n);
}
template <class D, class T>
HWY_API void store(D d, hn::Vec<D> v, T* p, Whole) {
  store(d, v, p);
}
template <class D, class T>
HWY_API void store(D d, hn::Vec<D> v, T* p, Streamed) {
  stream(d, v, p);
}
template <class D, class T>
HWY_API void store(D d, hn::Vec<D> v, T* p, Tail tail) {
  store_n(d, v, p, tail.n);
}

/// f(i, Whole{}) for whole vectors of D in [begin, end), then f(i, Tail{n}) for what is left.
template <class D, class F>
HWY_INLINE void for_each_vector(D d, std::int64_t begin, std::int64_t end, F&& f) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = begin;
  for (; i + n <= end; i += n) f(i, Whole{});
  if (i < end) f(i, Tail{end - i});
}
/// The same with f(i, Streamed{}) in place of Whole where `streamed`; see worth_streaming.
template <class D, class F>
HWY_INLINE void for_each_vector(D d, std::int64_t begin, std::int64_t end, bool streamed, F&& f) {
  if (!streamed) return for_each_vector(d, begin, end, f);
  const auto n = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = begin;
  for (; i + n <= end; i += n) f(i, Streamed{});
  if (i < end) f(i, Tail{end - i});
  hwy::FlushStream();
}

/// Whether the output y[0..n) of an elementwise kernel should bypass the caches: it is far larger than they
/// are, is aligned, and is not also read (added to, or an input's memory).
template <class T>
HWY_API bool worth_streaming(const T* y, std::int64_t n, Write write,
                             std::initializer_list<const void*> inputs) {
  if (write == Write::add || n * static_cast<std::int64_t>(sizeof(T)) < kStreamBytes) return false;
  if (reinterpret_cast<std::uintptr_t>(y) % HWY_MAX_BYTES != 0) return false;
  for (const void* x : inputs)
    if (x == y) return false;
  return true;
}

/// Lands a result: y = v or y += v.
template <class D, class T, class Part>
HWY_API void land(D d, hn::Vec<D> v, T* y, Part part, Write write) {
  store(d, write == Write::add ? hn::Add(load(d, y, part), v) : v, y, part);
}

/// Converts one element, rounding to nearest even: for tails and scalar paths.
template <class T>
HWY_API ComputeOf<T> to_compute(T v) {
  return static_cast<ComputeOf<T>>(v);
}

}  // namespace HWY_NAMESPACE
}  // namespace cairn::kernels
HWY_AFTER_NAMESPACE();

/// Fills `slot` with the best target's `kernel`: Status kernel(const Queue&, const Args&), for the dtypes of
/// this build. A macro because Highway's dispatch tables are. Further arguments go to FillCpu (workspace,
/// dtypes).
#undef CAIRN_CPU_SIMD_FILL
#define CAIRN_CPU_SIMD_FILL(slot, kernel, ...)          \
  HWY_EXPORT(kernel);                                   \
  const FillCpu kFill_##kernel {                        \
    slot, [](const Queue& queue, const auto& args) {    \
      return HWY_DYNAMIC_DISPATCH(kernel)(queue, args); \
    } __VA_OPT__(, ) __VA_ARGS__                        \
  }

#endif  // per-target guard
