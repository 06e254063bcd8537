#pragma once
/// Which elements a thread works on.
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cairn::kernels {

/// First element of this thread and the step to its next, in a loop over a one-dimensional grid:
///   for (int64_t i = grid_start(); i < n; i += grid_stride()) ...
/// 64-bit, since a tensor may have more than 2^31 elements.
__device__ __forceinline__ int64_t grid_start() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t grid_stride() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

/// 256 threads: 8 warps hide latency at any register count up to 255, and 6 to 8 such blocks fill an SM.
inline constexpr unsigned kBlock = 256;

/// Blocks for `work` items, one a thread, at most `most`: beyond that the grid-stride loop goes round again.
/// The default is 32 blocks of 256 threads for each of 132 SMs (H100), enough to level the last round out.
inline unsigned grid_for(int64_t work, unsigned block = kBlock, unsigned most = 132 * 32) {
  const int64_t blocks = (work + block - 1) / block;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

}  // namespace cairn::kernels
