#pragma once
/// CUDA's device arithmetic that neither C++ nor NVIDIA's headers offer to a host compiler ("Mathematical
/// Functions", "Integer Intrinsics" of the CUDA Math API). The fast intrinsics (__expf, ...) are exact to
/// float here: a kernel's tolerance has to allow for their error on a device.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

// ---- loads and stores with cache hints: plain ones here ----
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stwt(T* p, T value) {
  *p = value;
}

// ---- bits ----
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  x = ((x >> 1) & 0x55555555u) | ((x & 0x55555555u) << 1);
  x = ((x >> 2) & 0x33333333u) | ((x & 0x33333333u) << 2);
  x = ((x >> 4) & 0x0f0f0f0fu) | ((x & 0x0f0f0f0fu) << 4);
  return __builtin_bswap32(x);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((std::uint64_t{a} * b) >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>((std::int64_t{a} * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>((static_cast<Wide>(a) * b) >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((((std::uint64_t{high} << 32) | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((std::uint64_t{high} << 32) | low) >> (shift & 31));
}
/// Picks four of the eight bytes of {y, x}; the guide gives a selector three bits, and CUDA's header masks
/// the fourth.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = (std::uint64_t{y} << 32) | x;
  unsigned out = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned s = (selector >> (4 * i)) & 7;
    out |= static_cast<unsigned>((bytes >> (8 * s)) & 0xff) << (8 * i);
  }
  return out;
}

// ---- conversions: rounding named by the suffix; NaN gives 0 and overflow saturates, as cvt does ----
inline int __float2int_rz(float x) {
  if (x != x) return 0;
  return x >= 2147483648.0f ? INT32_MAX : x < -2147483648.0f ? INT32_MIN : static_cast<int>(x);
}
inline int __float2int_rn(float x) { return __float2int_rz(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return __float2int_rz(std::floor(x)); }
inline int __float2int_ru(float x) { return __float2int_rz(std::ceil(x)); }
inline unsigned __float2uint_rz(float x) {
  return !(x > 0.0f) ? 0u : x >= 4294967296.0f ? UINT32_MAX : static_cast<unsigned>(x);
}
inline unsigned __float2uint_rn(float x) { return __float2uint_rz(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

// ---- float ----
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // NaN gives 0
inline float __fdividef(float a, float b) { return a / b; }

namespace cairn::emu {
// IEEE 754-2019 maximumNumber: a NaN gives way to the other argument. glibc's are calls; these are inline.
inline float max_number(float a, float b) { return a != a ? b : (b != b || a > b) ? a : b; }
inline float min_number(float a, float b) { return a != a ? b : (b != b || a < b) ? a : b; }
inline float reciprocal_root(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline double reciprocal_root(double x) { return 1.0 / std::sqrt(x); }
}  // namespace cairn::emu
// Macros, because glibc declares functions of these names (rsqrtf from 2.42 on).
#define fmaxf(a, b) (::cairn::emu::max_number(a, b))
#define fminf(a, b) (::cairn::emu::min_number(a, b))
#define rsqrtf(x) (::cairn::emu::reciprocal_root(static_cast<float>(x)))
#define rsqrt(x) (::cairn::emu::reciprocal_root(static_cast<double>(x)))
#define __expf(x) (std::exp(static_cast<float>(x)))
#define __logf(x) (std::log(static_cast<float>(x)))
#define __log2f(x) (std::log2(static_cast<float>(x)))
#define __exp10f(x) (std::pow(10.0f, static_cast<float>(x)))
#define __powf(x, y) (std::pow(static_cast<float>(x), static_cast<float>(y)))
#define __sinf(x) (std::sin(static_cast<float>(x)))
#define __cosf(x) (std::cos(static_cast<float>(x)))
#define __tanf(x) (std::tan(static_cast<float>(x)))

// min and max as in CUDA: one pair a type, so that mixed 64-bit types stay ambiguous in both compilers.
#define CAIRN_MIN_MAX(type)                                 \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
CAIRN_MIN_MAX(int)
CAIRN_MIN_MAX(unsigned)
CAIRN_MIN_MAX(long)
CAIRN_MIN_MAX(unsigned long)
CAIRN_MIN_MAX(long long)
CAIRN_MIN_MAX(unsigned long long)
#undef CAIRN_MIN_MAX
inline float min(float a, float b) { return ::cairn::emu::min_number(a, b); }
inline float max(float a, float b) { return ::cairn::emu::max_number(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
