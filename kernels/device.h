#pragma once
#include <cstddef>
#include <string>

#include "kernels/dispatch.h"

namespace cairn::kernels {

enum class CopyKind : std::uint8_t { host_to_device, device_to_host, device_to_device };

/// What the engine needs of a device besides kernels: memory, queues, copies, events. A backend registers
/// one. All but allocate, synchronize and the event waits return before the queued work is done.
struct DeviceApi {
  /// Usable devices of this type; 0 with the reason and the cure in `why`.
  int (*count)(std::string& why);
  /// One line for people: "NVIDIA H100 80GB HBM3, sm_90, 79 GiB", "AMD EPYC, 2 threads, AVX-512".
  std::string (*describe)(int index);
  Status (*allocate)(int index, std::size_t bytes, void** out);  // 256-byte aligned
  Status (*release)(int index, void* memory);
  Status (*allocate_host)(std::size_t bytes, void** out);  // pinned where the device has use for it
  Status (*release_host)(void* memory);
  /// What the calling thread queues from now on is for this device. Null where there is but one.
  Status (*choose)(int index) = nullptr;
  Status (*create_queue)(int index, Queue& out);
  Status (*destroy_queue)(const Queue& queue);
  /// From the host: memory that is not pinned may be changed as soon as this returns (CUDA Runtime API, "API
  /// synchronization behavior").
  Status (*copy)(const Queue& queue, void* dst, const void* src, std::size_t bytes, CopyKind kind);
  Status (*fill_zero)(const Queue& queue, void* dst, std::size_t bytes);
  Status (*synchronize)(const Queue& queue);
  Status (*create_event)(int index, void*& event);
  Status (*destroy_event)(void* event);
  Status (*record_event)(const Queue& queue, void* event);
  Status (*queue_wait_event)(const Queue& queue, void* event);
  Status (*host_wait_event)(void* event);
  /// Whether what the event stands behind is done; does not wait.
  Status (*query_event)(void* event, bool& done);
  /// The narrowest floating type for which the device has arithmetic that may train fastest: bf16, fp16, or
  /// fp32 without any. A GPU's is fastest; a CPU's has to be tried.
  DType (*fast_dtype)(int index);
  /// Between these two, what is queued is written down in place of being run. Null where a device has no
  /// graphs. end_capture answers a null graph where it fails; the queue is then usable again.
  Status (*begin_capture)(const Queue& queue) = nullptr;
  Status (*end_capture)(const Queue& queue, void*& graph) = nullptr;
  Status (*launch_graph)(const Queue& queue, void* graph) = nullptr;
  Status (*destroy_graph)(void* graph) = nullptr;
  /// Bytes that allocate() has left. Null where the device computes in the host's memory.
  Status (*free_memory)(int index, std::size_t& bytes) = nullptr;
  /// Address space whose memory comes page by page as it is touched, for an allocator above this seam to cut
  /// up; at least 2 MiB aligned, never given back. A null `begin` where the system grants none. discard()
  /// hands the pages of a stretch back: what stood there is lost. Both null where a device has no such thing.
  void (*reserve)(int index, void*& begin, std::size_t& bytes) = nullptr;
  void (*discard)(int index, void* begin, std::size_t bytes) = nullptr;
  /// An op that may go through its batch part by part keeps what it holds of a part to about this size, that
  /// of the caches; 0: the whole batch at once is best.
  std::size_t part_bytes = 0;
  /// What the host does between these two has a name in a profiler's timeline. Null where no profiler looks.
  void (*push_range)(const char* name) = nullptr;
  void (*pop_range)() = nullptr;
};

/// Null if no backend of that type is in this process.
const DeviceApi* device_api(DeviceType type);
void register_device_api(DeviceType type, const DeviceApi* api);

}  // namespace cairn::kernels
