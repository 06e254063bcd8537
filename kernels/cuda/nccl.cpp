// libcairn_nccl.so: sums over GPUs by NCCL. Plain host code, the same for the real library and for the
// emulated device's stand-in. NCCL's algorithm depends on the machines and their links alone, so equal jobs
// give equal bits, and within a job every GPU receives the same ones.
#include "kernels/collective.h"

#include <nccl.h>

#include <cstdio>
#include <cstring>

#include "kernels/backend.h"
#include "kernels/cuda/status.h"

namespace cairn::kernels {
namespace {

Status nccl_status(ncclResult_t result, const std::string& what, ncclComm_t comm = nullptr) {
  if (result == ncclSuccess) return {};
  std::string text = "[nccl] " + what + " failed: " + ncclGetErrorString(result);
  if (const char* last = ncclGetLastError(comm); last && *last) text += ": " + std::string(last);
  return Status::error(text);
}

std::string version_text() {
  int v = 0;
  if (ncclGetVersion(&v) != ncclSuccess) return "NCCL";
  return "NCCL " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100) + kStandIn;
}

Status make_id(void* id) {
  ncclUniqueId unique;
  Status s = nccl_status(ncclGetUniqueId(&unique), "making a group's name");
  std::memcpy(id, &unique, sizeof unique);
  return s;
}

Status connect(int device_index, int rank, int world, const void* id, void*& group) {
  if (Status s = cuda_status(cudaSetDevice(device_index), "choosing the device"); !s.ok()) return s;
  ncclUniqueId unique;
  std::memcpy(&unique, id, sizeof unique);
  ncclComm_t comm = nullptr;
  Status s = nccl_status(ncclCommInitRank(&comm, world, unique, rank),
                         "joining " + std::to_string(world) + " GPUs as rank " + std::to_string(rank));
  group = comm;
  return s;
}

Status sum(void* group, const Queue& queue, void* data, std::int64_t n, DType dtype) {
  const auto comm = static_cast<ncclComm_t>(group);
  const ncclDataType_t type = dtype == DType::f64 ? ncclDouble : ncclFloat;
  return nccl_status(ncclAllReduce(data, data, static_cast<std::size_t>(n), type, ncclSum, comm,
                                   static_cast<cudaStream_t>(queue.stream)),
                     "a sum of " + std::to_string(n) + " values", comm);
}

Status disconnect(void* group) {
  return nccl_status(ncclCommDestroy(static_cast<ncclComm_t>(group)), "leaving the group");
}

Status abandon(void* group) {
  return nccl_status(ncclCommAbort(static_cast<ncclComm_t>(group)), "giving up the group");
}

constexpr CollectiveApi kApi = {
    .describe = &version_text,
    .id_bytes = sizeof(ncclUniqueId),
    .make_id = &make_id,
    .connect = &connect,
    .sum = &sum,
    .disconnect = &disconnect,
    .abandon = &abandon,
};

}  // namespace
}  // namespace cairn::kernels

extern "C" int cairn_provider_start(char* text, std::size_t size) {
  using namespace cairn::kernels;
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess || version / 10000 != NCCL_MAJOR) {
    std::snprintf(text, size, "NCCL %d was found, this build needs version %d", version / 10000, NCCL_MAJOR);
    return 1;
  }
  register_collective_api(kCudaDevice, &kApi);
  std::snprintf(text, size, "%s", version_text().c_str());
  return 0;
}
