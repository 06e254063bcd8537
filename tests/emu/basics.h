#pragma once
#include <cuda_runtime_api.h>

#include "kernels/dispatch.h"

namespace cairn::kernels {
/// y[i] = factor * x[i] for i < n, in blocks of 256.
Status run_scale(const float* x, float* y, float factor, int n, cudaStream_t stream);
/// sums[b] = sum of x[256 b ... 256 b + 255].
Status run_block_sum(const float* x, float* sums, int n, cudaStream_t stream);
}  // namespace cairn::kernels
