// The CUDA runtime on the emulated device: memory and copies.
#include <cstring>

#include "kernels/emu/counters.h"
#include "kernels/emu/recorder.h"
#include "kernels/emu/stream_queue.h"

using namespace cairn::emu;

namespace {

constexpr int kPinnedPoison = 0xDB;

/// Whether [p, p+bytes) lies inside one live device allocation.
bool device_range_ok(const void* p, std::size_t bytes) { return device_range_valid(p, bytes); }

cudaError_t copy_async(void* dst, const void* src, std::size_t bytes, cudaMemcpyKind kind,
                       cudaStream_t stream, bool synchronous) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  const bool src_device = is_device_pointer(src);
  const bool dst_device = is_device_pointer(dst);
  if (kind == cudaMemcpyDefault)
    kind = src_device ? (dst_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost)
                      : (dst_device ? cudaMemcpyHostToDevice : cudaMemcpyHostToHost);
  const bool wants_src_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool wants_dst_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  if (wants_src_device != src_device || wants_dst_device != dst_device)
    return fail(cudaErrorInvalidMemcpyDirection);
  if ((src_device && !device_range_ok(src, bytes)) || (dst_device && !device_range_ok(dst, bytes)))
    return fail(cudaErrorInvalidValue);
  ++r.counts.copies;
  if (bytes == 0) return cudaSuccess;
  std::function<void()> run;
  if (kind == cudaMemcpyHostToDevice && !is_pinned(r, src)) {
    // Pageable memory is staged before the call returns.
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(src),
                                                      static_cast<const char*>(src) + bytes);
    run = [=] {
      device_write(dst, staged->data(), bytes);
      note_copy("copy", 0, bytes);
    };
  } else if (kind == cudaMemcpyHostToDevice) {
    run = [=] {  // read when it runs: an early overwrite shows
      device_write(dst, src, bytes);
      note_copy("copy", 0, bytes);
    };
  } else if (kind == cudaMemcpyDeviceToHost) {
    if (is_pinned(r, dst) && !s->capture)
      std::memset(dst, kPinnedPoison, bytes);  // a host that reads too early sees this
    run = [=] {
      device_read(dst, src, bytes);
      note_copy("copy", bytes, 0);
    };
  } else if (kind == cudaMemcpyDeviceToDevice) {
    run = [=] {
      device_copy(dst, src, bytes);
      note_copy("copy", bytes, bytes);
    };
  } else {
    run = [=] { std::memmove(dst, src, bytes); };
  }
  // A copy between the device and pageable memory, and every cudaMemcpy that leaves or enters the host,
  // blocks the host.
  const bool blocks = synchronous || (kind == cudaMemcpyDeviceToHost && !is_pinned(r, dst));
  if (blocks && s->capture) return refuse_in_capture(*s);
  if (const cudaError_t error = submit(stream, "memcpy", std::move(run)); error != cudaSuccess) return error;
  if (blocks) {
    ++r.counts.synchronizations;
    wait_for(r, OpPtr(s->last));
    return device_error();
  }
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** out, size_t bytes) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out) return fail(cudaErrorInvalidValue);
  if (capture_forbids(r)) return fail(cudaErrorStreamCaptureUnsupported);
  ++r.counts.allocations;
  *out = device_malloc(bytes);
  return *out || bytes == 0 ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* p) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!p) return cudaSuccess;
  ++r.counts.frees;
  wait_for_device(r, current_device());  // cudaFree waits for the device
  return device_free(p) ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaMallocAsync(void** out, size_t bytes, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out || !resolve(r, stream)) return fail(cudaErrorInvalidValue);
  ++r.counts.allocations;
  *out = device_malloc(bytes);
  return *out || bytes == 0 ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!p) return cudaSuccess;
  if (!is_device_pointer(p)) return fail(cudaErrorInvalidValue);
  ++r.counts.frees;
  return submit(stream, "free", [p] { device_free(p); });
}

cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned int /*flags*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out) return fail(cudaErrorInvalidValue);
  ++r.counts.allocations;
  *out = std::aligned_alloc(4096, (std::max<size_t>(bytes, 1) + 4095) / 4096 * 4096);
  if (!*out) return fail(cudaErrorMemoryAllocation);
  r.pinned[static_cast<const char*>(*out)] = bytes;
  allow_host_range(*out, bytes);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }

cudaError_t cudaFreeHost(void* p) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!p) return cudaSuccess;
  if (r.pinned.erase(static_cast<const char*>(p)) == 0) return fail(cudaErrorInvalidValue);
  ++r.counts.frees;
  wait_for_device(r, current_device());
  forget_host_range(p);
  std::free(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind) {
  return copy_async(dst, src, bytes, kind, nullptr, kind != cudaMemcpyDeviceToDevice);
}

cudaError_t cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_async(dst, src, bytes, kind, stream, false);
}

cudaError_t cudaMemsetAsync(void* dst, int value, size_t bytes, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!device_range_ok(dst, bytes)) return fail(cudaErrorInvalidValue);
  ++r.counts.memsets;
  return submit(stream, "memset", [=] {
    device_fill(dst, value, bytes);
    note_copy("fill", 0, bytes);
  });
}

cudaError_t cudaMemset(void* dst, int value, size_t bytes) {
  return cudaMemsetAsync(dst, value, bytes, nullptr);
}

cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* src, size_t bytes, size_t offset,
                               cudaMemcpyKind) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  ++r.counts.copies;
  wait_for_device(r, current_device());
  std::memcpy(static_cast<char*>(const_cast<void*>(symbol)) + offset, src, bytes);
  if (recording()) record_symbol(symbol, src, bytes, offset);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const auto& profile = device_profile();
  *total_bytes = profile.total_global_mem;
  const std::size_t used = device_bytes_in_use();
  *free_bytes = profile.total_global_mem > used ? profile.total_global_mem - used : 0;
  return cudaSuccess;
}

}  // extern "C"
