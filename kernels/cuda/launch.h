#pragma once
/// The one include of every .cu file. nvcc compiles the file for GPUs; g++ compiles it for the emulated
/// device (CAIRN_CUDA_EMU), with NVIDIA's own headers for types and conversions and kernels/emu/simt.h for
/// the rest.
///
/// What both compilers understand, and so what a kernel is written in:
///  - shared memory: `__shared__ T tile[N];`, with `__align__(16)` behind it where vectors go through it, or
///    CAIRN_DYNAMIC_SHARED(T, name); never `extern __shared__`; T without a constructor (__half has one);
///  - launches: launch(kernel, grid, block, shared_bytes, stream, args...), never `<<<`;
///  - bf16 and fp16: load, to_float, compute in float, from_float, store; no arithmetic on 16-bit types;
///  - __constant__ and __device__ variables are file-local, set with cudaMemcpyToSymbol;
///  - warp functions are the _sync ones; code that relies on lanes running in lockstep breaks at once.
#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/cuda/status.h"
#include "kernels/dispatch.h"

#if defined(__CUDACC__)
/// Declares `T* name`: the dynamic shared memory of the launch. At most one type in one kernel.
#define CAIRN_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char cairn_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(cairn_dynamic_shared)
#elif defined(CAIRN_CUDA_EMU)
#include "kernels/emu/simt.h"
#define CAIRN_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::cairn::emu::dynamic_shared())
#else
#error "kernels/cuda/launch.h is for nvcc, or for g++ with CAIRN_CUDA_EMU"
#endif

namespace cairn {
template <>
inline constexpr DType dtype_of<__nv_bfloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<__half> = DType::f16;
}  // namespace cairn

namespace cairn::kernels {

/// What a kernel computes in for elements of T: float, and double for double alone (gradient checks).
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

__host__ __device__ inline float to_float(float x) { return x; }
__host__ __device__ inline double to_float(double x) { return x; }
__host__ __device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__host__ __device__ inline float to_float(__half x) { return __half2float(x); }

/// Rounds to nearest even.
template <class T>
__host__ __device__ inline T from_float(Compute<T> x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else {
    return x;
  }
}

/// Sixteen bytes of T, moved by one access.
template <class T>
struct alignas(16) Vector128 {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));
  T v[kSize];
};

/// `p` must be aligned to 16 bytes.
template <class T>
__device__ __forceinline__ Vector128<T> load_128(const T* p) {
  Vector128<T> out;
  *reinterpret_cast<uint4*>(&out) = *reinterpret_cast<const uint4*>(p);
  return out;
}
template <class T>
__device__ __forceinline__ void store_128(T* p, const Vector128<T>& value) {
  *reinterpret_cast<uint4*>(p) = *reinterpret_cast<const uint4*>(&value);
}

namespace launch_detail {
Status inline failure(const char* name, dim3 grid, dim3 block, std::size_t shared, cudaError_t error) {
  const auto text = [](dim3 d) {
    return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
  };
  return Status::error(
      "[" + std::string(name) + "] launch failed: " + cudaGetErrorString(error) + " (grid " + text(grid) +
          ", block " + text(block) + ", " + std::to_string(shared) + " bytes of dynamic shared memory)",
      error == cudaErrorMemoryAllocation ? Status::Code::out_of_memory : Status::Code::failed);
}
}  // namespace launch_detail

/// Queues kernel(args...) on the stream and checks the launch itself; errors of the run come with a later
/// synchronisation. More than 48 KiB of dynamic shared memory is opted into here. An empty grid is an error,
/// as in CUDA: a launcher returns early for empty tensors.
template <class... Params, class... Args>
Status launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
              Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "launch: the kernel takes another number of arguments");
  static_assert((std::is_trivially_copyable_v<Params> && ...),
                "launch: kernel parameters are copied by bytes");
#if defined(__CUDACC__)
  const void* function = reinterpret_cast<const void*>(kernel);
  constexpr std::size_t kWithoutOptIn = 48 * 1024;  // CUDA C++ Programming Guide, "Technical Specifications"
  cudaError_t error = cudaSuccess;
  if (shared_bytes > kWithoutOptIn)
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  if (error == cudaSuccess) {
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Params>(args)...);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) return {};
  const char* name = nullptr;
  if (cudaFuncGetName(&name, function) != cudaSuccess || !name) name = "kernel";
  return launch_detail::failure(name, grid, block, shared_bytes, error);
#else
  const emu::KernelCall call(kernel, static_cast<Params>(args)...);
  const cudaError_t error = emu::launch(call, grid, block, shared_bytes, stream);
  if (error == cudaSuccess) return {};
  return launch_detail::failure(emu::kernel_name(call.function()), grid, block, shared_bytes, error);
#endif
}

}  // namespace cairn::kernels
