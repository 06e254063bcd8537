// Memory, queues, copies and events on the CUDA runtime: plain host code, the same for the real runtime and
// for the emulated device's stand-in.
#include "kernels/device.h"

#include "kernels/cuda/status.h"

// Header only; does nothing unless a profiler brings its library along. An older or cut-down toolkit may lack
// it.
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define CAIRN_NVTX
#endif

namespace cairn::kernels {
namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + '.' + std::to_string(version % 1000 / 10);
}

// Why there is no usable device, and what helps.
std::string explain(cudaError_t error) {
  if (error == cudaErrorNoDevice || error == cudaSuccess)
    return "no NVIDIA GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES (in a container, run it with "
           "--gpus all)";
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    if (driver == 0) return "no NVIDIA driver is installed: install it, or use --device cpu";
    return "the NVIDIA driver serves CUDA " + version_text(driver) + ", this build needs " +
           version_text(CUDART_VERSION) + ": update the driver, or build with an older CUDA Toolkit";
  }
  return std::string("the CUDA runtime does not start: ") + cudaGetErrorString(error) + " (" +
         cudaGetErrorName(error) + "); check nvidia-smi";
}

int count(std::string& why) {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    (void)cudaGetLastError();
    why = explain(error);
    return 0;
  }
  return devices;
}

std::string describe(int index) {
  cudaDeviceProp prop;
  if (const Status s = cuda_status(cudaGetDeviceProperties(&prop, index), "asking for its properties");
      !s.ok())
    return s.message();
  std::string text = std::string(prop.name) + ", sm_" + std::to_string(prop.major) +
                     std::to_string(prop.minor) + ", " + std::to_string(prop.totalGlobalMem >> 30) + " GiB";
  if (kCudaDevice == DeviceType::cuda_emu)
    text += " (emulated on the CPU: results as on a GPU, no speed of one)";
  return text;
}

// The runtime's calls serve the device that the calling thread chose last.
Status choose(int index) {
  return cuda_status(cudaSetDevice(index), "choosing device " + std::to_string(index));
}

Status allocate(int index, std::size_t bytes, void** out) {
  *out = nullptr;
  if (Status s = choose(index); !s.ok()) return s;
  return cuda_status(cudaMalloc(out, bytes > 0 ? bytes : 1),
                     "allocating " + std::to_string(bytes) + " bytes");
}

Status release(int index, void* memory) {
  if (Status s = choose(index); !s.ok()) return s;
  return cuda_status(cudaFree(memory), "freeing device memory");
}

Status allocate_host(std::size_t bytes, void** out) {
  *out = nullptr;
  return cuda_status(cudaHostAlloc(out, bytes > 0 ? bytes : 1, cudaHostAllocPortable),
                     "allocating " + std::to_string(bytes) + " bytes of pinned host memory");
}

cudaStream_t stream_of(const Queue& queue) { return static_cast<cudaStream_t>(queue.stream); }

Status create_queue(int index, Queue& out) {
  if (Status s = choose(index); !s.ok()) return s;
  cudaStream_t stream = nullptr;
  if (Status s = cuda_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
      !s.ok())
    return s;
  out = Queue{{kCudaDevice, index}, stream};
  return {};
}

const char* name_of(CopyKind kind) {
  switch (kind) {
    case CopyKind::host_to_device:
      return "to the device";
    case CopyKind::device_to_host:
      return "to the host";
    case CopyKind::device_to_device:
      return "on the device";
  }
  return "";
}

// CUDA stages memory that is not pinned before it returns, except where the GPU reads it through the host's
// page tables (Grace): there the copy itself has to be waited for, or the caller could change what is still
// to be read.
bool stays_in_use(const Queue& queue, const void* src) {
  int direct = 0;
  if (cudaDeviceGetAttribute(&direct, cudaDevAttrPageableMemoryAccessUsesHostPageTables,
                             queue.device.index) != cudaSuccess ||
      direct == 0)
    return false;
  cudaPointerAttributes attributes;
  return cudaPointerGetAttributes(&attributes, src) == cudaSuccess &&
         attributes.type == cudaMemoryTypeUnregistered;
}

Status copy(const Queue& queue, void* dst, const void* src, std::size_t bytes, CopyKind kind) {
  if (bytes == 0) return {};
  constexpr cudaMemcpyKind kKinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost,
                                       cudaMemcpyDeviceToDevice};
  cudaError_t error = cudaMemcpyAsync(dst, src, bytes, kKinds[static_cast<int>(kind)], stream_of(queue));
  if (error == cudaSuccess && kind == CopyKind::host_to_device && stays_in_use(queue, src))
    error = cudaStreamSynchronize(stream_of(queue));
  if (error == cudaSuccess) return {};
  return cuda_status(error, "copying " + std::to_string(bytes) + " bytes " + name_of(kind));
}

Status fill_zero(const Queue& queue, void* dst, std::size_t bytes) {
  if (bytes == 0) return {};
  return cuda_status(cudaMemsetAsync(dst, 0, bytes, stream_of(queue)), "clearing device memory");
}

Status create_event(int index, void*& event) {
  event = nullptr;
  if (Status s = choose(index); !s.ok()) return s;
  cudaEvent_t e = nullptr;
  Status s = cuda_status(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "creating an event");
  event = e;
  return s;
}

// sm_80 and later compute bf16, which needs no loss scaling; sm_75 has tensor cores for fp16 alone.
DType fast_dtype(int index) {
  int major = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) != cudaSuccess)
    return DType::f32;
  return major >= 8 ? DType::bf16 : DType::f16;
}

// Relaxed: the allocator may still ask the device for memory, and other threads for pinned memory.
Status begin_capture(const Queue& queue) {
  return cuda_status(cudaStreamBeginCapture(stream_of(queue), cudaStreamCaptureModeRelaxed),
                     "beginning to capture a graph");
}

Status end_capture(const Queue& queue, void*& out) {
  out = nullptr;
  cudaGraph_t graph = nullptr;
  if (Status s = cuda_status(cudaStreamEndCapture(stream_of(queue), &graph), "capturing a graph"); !s.ok())
    return s;
  cudaGraphExec_t exec = nullptr;
  Status s = cuda_status(cudaGraphInstantiate(&exec, graph, 0), "instantiating a graph");
  if (s.ok()) out = exec;
  const Status destroyed = cuda_status(cudaGraphDestroy(graph), "freeing a captured graph");
  return s.ok() ? destroyed : s;
}

Status launch_graph(const Queue& queue, void* graph) {
  return cuda_status(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(queue)),
                     "launching a graph");
}

Status destroy_graph(void* graph) {
  return cuda_status(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)), "freeing a graph");
}

Status query_event(void* event, bool& done) {
  const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(event));
  done = error == cudaSuccess;
  return error == cudaErrorNotReady ? Status() : cuda_status(error, "work on the device");
}

Status free_memory(int index, std::size_t& bytes) {
  if (Status s = choose(index); !s.ok()) return s;
  std::size_t total = 0;
  return cuda_status(cudaMemGetInfo(&bytes, &total), "asking for free memory");
}

constexpr DeviceApi kApi = {
    .count = &count,
    .describe = &describe,
    .allocate = &allocate,
    .release = &release,
    .allocate_host = &allocate_host,
    .release_host =
        [](void* memory) { return cuda_status(cudaFreeHost(memory), "freeing pinned host memory"); },
    .choose = &choose,
    .create_queue = &create_queue,
    .destroy_queue =
        [](const Queue& q) { return cuda_status(cudaStreamDestroy(stream_of(q)), "destroying a stream"); },
    .copy = &copy,
    .fill_zero = &fill_zero,
    .synchronize =
        [](const Queue& q) { return cuda_status(cudaStreamSynchronize(stream_of(q)), "work on the device"); },
    .create_event = &create_event,
    .destroy_event =
        [](void* event) {
          return cuda_status(cudaEventDestroy(static_cast<cudaEvent_t>(event)), "destroying an event");
        },
    .record_event =
        [](const Queue& q, void* event) {
          return cuda_status(cudaEventRecord(static_cast<cudaEvent_t>(event), stream_of(q)),
                             "recording an event");
        },
    .queue_wait_event =
        [](const Queue& q, void* event) {
          return cuda_status(cudaStreamWaitEvent(stream_of(q), static_cast<cudaEvent_t>(event), 0),
                             "waiting for an event on a stream");
        },
    .host_wait_event =
        [](void* event) {
          return cuda_status(cudaEventSynchronize(static_cast<cudaEvent_t>(event)), "work on the device");
        },
    .query_event = &query_event,
    .fast_dtype = &fast_dtype,
    .begin_capture = &begin_capture,
    .end_capture = &end_capture,
    .launch_graph = &launch_graph,
    .destroy_graph = &destroy_graph,
    .free_memory = &free_memory,
#ifdef CAIRN_NVTX
    .push_range = [](const char* name) { nvtxRangePushA(name); },
    .pop_range = [] { nvtxRangePop(); },
#endif
};
[[maybe_unused]] const bool kRegistered = (register_device_api(kCudaDevice, &kApi), true);

}  // namespace
}  // namespace cairn::kernels
