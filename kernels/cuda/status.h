#pragma once
/// What host code of the CUDA backend shares: which device it serves, and CUDA's errors as Status.
#include <cuda_runtime_api.h>

#include <string>

#include "kernels/dispatch.h"

namespace cairn::kernels {

#if defined(CAIRN_CUDA_EMU)
inline constexpr DeviceType kCudaDevice = DeviceType::cuda_emu;
#else
inline constexpr DeviceType kCudaDevice = DeviceType::cuda;
#endif

/// Behind the name of a vendor's library where people read it.
inline constexpr const char* kStandIn = kCudaDevice == DeviceType::cuda_emu
                                            ? " (on the emulated device, which computes its calls on the CPU)"
                                            : "";

/// ok, or "[cuda] <what> failed: <CUDA's text> (<CUDA's name>)". Clears the runtime's last error, so that the
/// next launch does not answer for it.
inline Status cuda_status(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  return Status::error(
      "[cuda] " + what + " failed: " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")",
      error == cudaErrorMemoryAllocation ? Status::Code::out_of_memory : Status::Code::failed);
}

}  // namespace cairn::kernels
