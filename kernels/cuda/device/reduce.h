#pragma once
/// Reductions over a warp and over a block, in a fixed order: the same bits from run to run.
#include "kernels/cuda/launch.h"

namespace cairn::kernels {

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// NaN wins, as it does in PyTorch's max.
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return (a != a || a > b) ? a : b;
  }
};

/// Reduces one value a lane; every lane gets the result. All 32 lanes must call it.
template <class Op, class T>
__device__ __forceinline__ T warp_reduce(T v, Op op = Op{}) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, mask));
  return v;
}

/// Reduces one value a thread of a one-dimensional block whose size is a multiple of 32; every thread gets
/// the result. `scratch`: 32 elements of shared memory. The first barrier makes it safe to hand in the same
/// scratch again at once.
template <class Op, class T>
__device__ __forceinline__ T block_reduce(T v, T identity, T* scratch, Op op = Op{}) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  v = warp_reduce<Op>(v, op);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  __syncthreads();
  return warp_reduce<Op>(lane < warps ? scratch[lane] : identity, op);
}

}  // namespace cairn::kernels
