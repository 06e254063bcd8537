// The CUDA runtime on the emulated device: devices, pointers, versions and errors.
#include <cstring>

#include "kernels/emu/stream_queue.h"

using namespace cairn::emu;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  *count = r.devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (device < 0 || device >= count) return fail(cudaErrorInvalidDevice);
  current_device() = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* prop, int device) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (!prop || device < 0 || device >= count) return fail(cudaErrorInvalidDevice);
  const auto& p = cairn::emu::device_profile();
  *prop = {};
  std::strncpy(prop->name, ("emulated " + p.name).c_str(), sizeof prop->name - 1);
  prop->totalGlobalMem = p.total_global_mem;
  prop->sharedMemPerBlock = p.max_shared_memory_per_block;
  prop->sharedMemPerBlockOptin = p.max_shared_memory_per_block_optin;
  prop->sharedMemPerMultiprocessor = p.shared_memory_per_multiprocessor;
  prop->regsPerBlock = static_cast<int>(p.registers_per_block);
  prop->warpSize = 32;
  prop->maxThreadsPerBlock = static_cast<int>(p.max_threads_per_block);
  prop->maxThreadsPerMultiProcessor = static_cast<int>(p.max_threads_per_multiprocessor);
  for (int i = 0; i < 3; ++i) {
    prop->maxThreadsDim[i] = static_cast<int>(p.max_block_size[static_cast<std::size_t>(i)]);
    prop->maxGridSize[i] = static_cast<int>(p.max_grid_size[static_cast<std::size_t>(i)]);
  }
  prop->major = p.compute_capability / 10;
  prop->minor = p.compute_capability % 10;
  prop->multiProcessorCount = static_cast<int>(p.multiprocessors);
  prop->l2CacheSize = static_cast<int>(p.l2_cache_bytes);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
      *value = 0;
      return cudaSuccess;
    default:
      return fail(cudaErrorInvalidValue);
  }
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  *attributes = {};
  const bool device = cairn::emu::is_device_pointer(p);
  attributes->type = device            ? cudaMemoryTypeDevice
                     : is_pinned(r, p) ? cudaMemoryTypeHost
                                       : cudaMemoryTypeUnregistered;
  if (device) attributes->devicePointer = const_cast<void*>(p);
  if (attributes->type == cudaMemoryTypeHost) attributes->hostPointer = const_cast<void*>(p);
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return last_error(true); }
cudaError_t cudaPeekAtLastError() { return last_error(false); }

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidMemcpyDirection:
      return "cudaErrorInvalidMemcpyDirection";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    default:
      return "cudaError of the emulated device";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return cudaGetErrorName(error); }

}  // extern "C"
