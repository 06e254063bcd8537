// Time stamps on the CUDA runtime, for benchmarks.
#include "kernels/timer.h"

#include "kernels/cuda/status.h"

namespace cairn::kernels {
namespace {

Status create_event(int index, void*& event) {
  event = nullptr;
  if (Status s = cuda_status(cudaSetDevice(index), "choosing the device"); !s.ok()) return s;
  cudaEvent_t e = nullptr;
  Status s = cuda_status(cudaEventCreate(&e), "creating an event with a time stamp");
  event = e;
  return s;
}

Status elapsed_us(void* begin, void* end, double& us) {
  float milliseconds = 0;
  Status s = cuda_status(
      cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end)),
      "reading the time between two events");
  us = static_cast<double>(milliseconds) * 1000;
  return s;
}

Status cache_bytes(int index, std::size_t& bytes) {
  cudaDeviceProp prop;
  Status s = cuda_status(cudaGetDeviceProperties(&prop, index), "asking for its cache");
  bytes = s.ok() ? static_cast<std::size_t>(prop.l2CacheSize) : 0;
  return s;
}

constexpr TimerApi kApi = {
    .create_event = &create_event, .elapsed_us = &elapsed_us, .cache_bytes = &cache_bytes};
[[maybe_unused]] const bool kRegistered = (register_timer_api(kCudaDevice, &kApi), true);

}  // namespace
}  // namespace cairn::kernels
