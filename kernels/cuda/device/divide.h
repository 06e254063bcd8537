#pragma once
/// Division of element indices. The compiler makes a call of a 64-bit division, around which registers spill;
/// this is inlined, and as fast as a 32-bit one for the indices of any tensor below four thousand million
/// elements.
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cairn::kernels {

/// a / b of non-negative a and positive b.
__device__ __forceinline__ int64_t divide(int64_t a, int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  // By hand, bit by bit.
  uint64_t quotient = 0, rest = 0;
#pragma unroll 1
  for (int bit = 62; bit >= 0; --bit) {
    rest = rest << 1 | (static_cast<uint64_t>(a) >> bit & 1);
    quotient <<= 1;
    if (rest >= static_cast<uint64_t>(b)) {
      rest -= static_cast<uint64_t>(b);
      quotient |= 1;
    }
  }
  return static_cast<int64_t>(quotient);
}

}  // namespace cairn::kernels
