#include <cstdio>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/launch.h"

// The launch self-test: y[i] = a*x[i] + i over some blocks, through shared memory and a barrier, held against
// the host. It finds a GPU that this build has no code for, a driver that is too old for its PTX, and a
// device that is broken or taken by another process, before training begins.

namespace cairn::kernels {
namespace {

constexpr int kBlock = 128;

__global__ void self_test(const float* x,  // [n]
                          float* y,        // [n]
                          float a, int n) {
  __shared__ float tile[kBlock];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  tile[threadIdx.x] = i < n ? x[i] : 0.0f;
  __syncthreads();
  if (i < n) y[i] = fmaf(a, tile[threadIdx.x], static_cast<float>(i));
}

struct Buffer {
  explicit Buffer(std::size_t bytes) : error(cudaMalloc(&data, bytes)) {}
  ~Buffer() { cudaFree(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data = nullptr;
  cudaError_t error;
};

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

#if defined(CAIRN_CUDA_ARCHITECTURES)
constexpr const char* kArchitectures = CAIRN_CUDA_ARCHITECTURES;
#else
constexpr const char* kArchitectures = "the emulated device's";
#endif

std::string explain(int device, cudaError_t error) {
  int driver = 0, major = 0, minor = 0;
  cudaDriverGetVersion(&driver);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  const std::string sm = "sm_" + std::to_string(major) + std::to_string(minor);
  switch (error) {
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorUnsupportedPtxVersion:
      return "the NVIDIA driver serves CUDA " + version_text(driver) + ", this build needs " +
             version_text(CUDART_VERSION) + ": update the driver, or build with an older CUDA toolkit";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
      return "this build has no code for " + sm + " (it has " + kArchitectures +
             ", and PTX of the newest): build cairn from source with a toolkit that knows " + sm;
    case cudaErrorDevicesUnavailable:
      return "the GPU is busy or in exclusive mode: see nvidia-smi, or choose another with --device cuda:N";
    case cudaErrorMemoryAllocation:
      return "the GPU has no free memory: see nvidia-smi for who uses it";
    default:
      return std::string("the launch self-test failed: ") + cudaGetErrorString(error) +
             "; see nvidia-smi and the kernel log";
  }
}

/// Empty if the device computes what it should.
std::string examine(int device) {
  constexpr int kElements = 3 * kBlock + 1;
  constexpr float kScale = 0.5f;
  constexpr std::size_t kBytes = kElements * sizeof(float);
  std::vector<float> x(kElements), y(kElements);
  for (int i = 0; i < kElements; ++i) x[static_cast<std::size_t>(i)] = static_cast<float>(2 * i - 100);

  if (const cudaError_t e = cudaSetDevice(device); e != cudaSuccess) return explain(device, e);
  const Buffer device_x(kBytes), device_y(kBytes);
  for (const cudaError_t e : {device_x.error, device_y.error})
    if (e != cudaSuccess) return explain(device, e);
  if (const cudaError_t e = cudaMemcpy(device_x.data, x.data(), kBytes, cudaMemcpyHostToDevice);
      e != cudaSuccess)
    return explain(device, e);
  cudaError_t launch_error = cudaSuccess;
  const Status launched = launch(&self_test, dim3((kElements + kBlock - 1) / kBlock), dim3(kBlock), 0,
                                 static_cast<cudaStream_t>(nullptr), static_cast<const float*>(device_x.data),
                                 static_cast<float*>(device_y.data), kScale, kElements);
#if defined(__CUDACC__)
  if (!launched.ok()) {
    // launch() has taken the error's number: asking for the function fails in the same way.
    cudaFuncAttributes attributes;
    launch_error = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(&self_test));
    cudaGetLastError();
  }
#endif
  if (launch_error != cudaSuccess) return explain(device, launch_error);
  if (!launched.ok()) return launched.message();
  if (const cudaError_t e = cudaMemcpy(y.data(), device_y.data, kBytes, cudaMemcpyDeviceToHost);
      e != cudaSuccess)
    return explain(device, e);
  for (int i = 0; i < kElements; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const float want = kScale * x[at] + static_cast<float>(i);  // exact: small integers and a half
    if (y[at] != want)
      return "the launch self-test computed " + std::to_string(y[at]) + " at element " + std::to_string(i) +
             ", not " + std::to_string(want) + ": the GPU or its driver is broken; see nvidia-smi and the " +
             "kernel log";
  }
  return {};
}

}  // namespace
}  // namespace cairn::kernels

extern "C" int cairn_cuda_self_test(int device, char* text, std::size_t size) {
  const std::string why = cairn::kernels::examine(device);
  std::snprintf(text, size, "%s", why.c_str());
  return why.empty() ? 0 : 1;
}
