#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "kernels/dispatch.h"

namespace cairn::kernels {

using Word = std::uint32_t;

/// Runs a kernel of conformance.cu, programs that CUDA's guide gives one meaning: kernel(in, out).
Status run_program(const std::string& name, dim3 grid, dim3 block, std::size_t shared_bytes, const Word* in,
                   Word* out, cudaStream_t stream = nullptr);

/// Sets a __constant__ variable of conformance.cu that the program "constant_memory" reads.
cudaError_t set_constant(const Word (&values)[4]);

}  // namespace cairn::kernels
