#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Sums over the devices of several processes, queued like kernels. A provider (libcairn_nccl.so) registers
/// one.
struct CollectiveApi {
  /// "NCCL 2.28.3".
  std::string (*describe)();
  /// Bytes of the name under which the processes of a group meet; rank 0 makes it and hands it to the others.
  std::size_t id_bytes;
  Status (*make_id)(void* id);
  /// Returns once all are here.
  Status (*connect)(int device_index, int rank, int world, const void* id, void*& group);
  /// data [n] fp32 or fp64 = the sum over the group, in place; the same bits on all. Every process queues the
  /// same calls in the same order.
  Status (*sum)(void* group, const Queue& queue, void* data, std::int64_t n, DType dtype);
  /// All processes leave; returns once they do.
  Status (*disconnect)(void* group);
  /// Leaves after a failure, without the others: what is queued here comes to nothing.
  Status (*abandon)(void* group);
};

/// Null if no provider for that type of device is in this process.
const CollectiveApi* collective_api(DeviceType type);
void register_collective_api(DeviceType type, const CollectiveApi* api);

}  // namespace cairn::kernels
