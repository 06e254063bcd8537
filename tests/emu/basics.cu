// First light: a copy, a block reduction through shared memory and shuffles, a counter.
#include "tests/emu/basics.h"

#include "kernels/cuda/launch.h"

namespace cairn::kernels {
namespace {

__global__ void scale(const float* x, float* y, float factor, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = factor * x[i];
}

__global__ void block_sum(const float* x, float* sums, int n) {
  __shared__ float warp_sums[32];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  float v = i < n ? x[i] : 0.0f;
  for (int delta = 16; delta > 0; delta /= 2)
    v += __shfl_down_sync(0xffffffffu, v, static_cast<unsigned>(delta));
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) {
    v = threadIdx.x < blockDim.x / 32 ? warp_sums[threadIdx.x] : 0.0f;
    for (int delta = 16; delta > 0; delta /= 2)
      v += __shfl_down_sync(0xffffffffu, v, static_cast<unsigned>(delta));
    if (threadIdx.x == 0) sums[blockIdx.x] = v;
  }
}

}  // namespace

Status run_scale(const float* x, float* y, float factor, int n, cudaStream_t stream) {
  return launch(scale, static_cast<unsigned>((n + 255) / 256), 256, 0, stream, x, y, factor, n);
}
Status run_block_sum(const float* x, float* sums, int n, cudaStream_t stream) {
  return launch(block_sum, static_cast<unsigned>((n + 255) / 256), 256, 0, stream, x, sums, n);
}

}  // namespace cairn::kernels
