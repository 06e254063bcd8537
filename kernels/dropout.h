#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Inverted dropout (Srivastava et al. 2014): y = x / (1-p) where kept, else 0, 0 <= p < 1. Forward and
/// backward are the same map, so one slot serves both: the mask is drawn again, not stored. Element i
/// (row-major in x, counted from first_index) is kept if word i%4 of philox(seed, stream + (step << 32), i/4)
/// is at least floor(p * 2^32): the same bits on every device. step: [1] int64 in device memory, read when
/// the kernel runs, so that a replayed graph draws anew; absent = 0.
struct Dropout {
  ConstView x;
  View y;
  float p = 0.5f;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  ConstView step;
  std::int64_t first_index = 0;
  Write write = Write::assign;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<Dropout> dropout("dropout");

}  // namespace cairn::kernels
