#pragma once
/// Loops over elements: kWidth of them a thread and access, 16 bytes where all arrays lie on 16 bytes, one
/// element where they do not, and one by one behind the last whole group.
#include <initializer_list>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/launch.h"

namespace cairn::kernels {

/// kWidth elements of T as one access of 1 to 16 bytes.
template <int kWidth, class T>
struct alignas(sizeof(T) * kWidth) Pack {
  T v[kWidth];
};
template <std::size_t kBytes>
struct WordOf;
template <>
struct WordOf<1> {
  using Type = unsigned char;
};
template <>
struct WordOf<2> {
  using Type = unsigned short;
};
template <>
struct WordOf<4> {
  using Type = unsigned;
};
template <>
struct WordOf<8> {
  using Type = uint2;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};

/// `p` must be aligned to the pack's size.
template <int kWidth, class T>
__device__ __forceinline__ Pack<kWidth, T> load_pack(const T* p) {
  using Word = typename WordOf<sizeof(T) * kWidth>::Type;
  Pack<kWidth, T> out;
  *reinterpret_cast<Word*>(&out) = *reinterpret_cast<const Word*>(p);
  return out;
}
template <int kWidth, class T>
__device__ __forceinline__ void store_pack(T* p, const Pack<kWidth, T>& pack) {
  using Word = typename WordOf<sizeof(T) * kWidth>::Type;
  *reinterpret_cast<Word*>(p) = *reinterpret_cast<const Word*>(&pack);
}

/// What kWidth elements are computed as.
template <int kWidth, class T>
struct Values {
  Compute<T> v[kWidth];
};
template <int kWidth, class T>
__device__ __forceinline__ Values<kWidth, T> load_values(const T* p) {
  const Pack<kWidth, T> pack = load_pack<kWidth>(p);
  Values<kWidth, T> out;
#pragma unroll
  for (int k = 0; k < kWidth; ++k) out.v[k] = to_float(pack.v[k]);
  return out;
}
/// Stores, or adds to what is there, with one rounding.
template <int kWidth, class T>
__device__ __forceinline__ void land_values(T* p, const Values<kWidth, T>& values, Write write) {
  Pack<kWidth, T> pack;
  if (write == Write::add) {
    const Values<kWidth, T> old = load_values<kWidth>(p);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) pack.v[k] = from_float<T>(old.v[k] + values.v[k]);
  } else {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) pack.v[k] = from_float<T>(values.v[k]);
  }
  store_pack(p, pack);
}

/// f.run<kWidth>(i) for each i in [0, n) that is a multiple of kWidth and has its whole group, f.run<1>(i)
/// for the rest. At least four blocks a multiprocessor, half of its threads: with the first figure alone
/// ptxas aims higher, and spills.
template <int kWidth, class F>
__global__ void __launch_bounds__(kBlock, 4) elementwise_kernel(int64_t n, F f) {
  const int64_t whole = n / kWidth * kWidth;
  for (int64_t i = grid_start() * kWidth; i < whole; i += grid_stride() * kWidth) f.template run<kWidth>(i);
  if constexpr (kWidth > 1) {
    const int64_t i = whole + grid_start();  // fewer than kWidth are left, and a block has more threads
    if (i < n) f.template run<1>(i);
  }
}

inline bool aligned(const void* p, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}
inline bool aligned_16(std::initializer_list<const void*> pointers) {
  for (const void* p : pointers)
    if (!aligned(p, 16)) return false;
  return true;
}

/// Runs f over n elements, kWidth at a time if `wide`, else one at a time. An empty range is no launch.
template <int kWidth, class F>
Status launch_elementwise(cudaStream_t stream, int64_t n, bool wide, const F& f) {
  if (n == 0) return {};
  if constexpr (kWidth > 1) {
    if (wide)
      return launch(elementwise_kernel<kWidth, F>, dim3(grid_for((n + kWidth - 1) / kWidth)), dim3(kBlock), 0,
                    stream, n, f);
  }
  return launch(elementwise_kernel<1, F>, dim3(grid_for(n)), dim3(kBlock), 0, stream, n, f);
}

}  // namespace cairn::kernels
