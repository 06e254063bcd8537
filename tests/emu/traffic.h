#pragma once
#include <cuda_runtime_api.h>

#include <string>

#include "kernels/dispatch.h"

namespace cairn::kernels {
/// Runs a kernel of traffic.cu, whose memory traffic can be worked out on paper.
Status run_traffic(const std::string& name, dim3 grid, dim3 block, const float* in, float* out, int n);
}  // namespace cairn::kernels
