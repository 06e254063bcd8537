#pragma once
/// A thin layer of our own over cuDNN's backend API: descriptors that free themselves, the three convolution
/// graphs, and the choice of a plan. No device is needed for any of it: the device is a description
/// (DeviceDescription), made from a real GPU or from a profile's JSON, so that tests ask the real cuDNN about
/// any GPU with the very code that runs on it. cuDNN's documentation: "Graph API", "Backend Descriptor
/// Types".
#include <cudnn.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/conv.h"

namespace cairn::kernels::cudnn {

/// A call of cuDNN failed; what() names it with cuDNN's own words. Caught in conv.cpp, where it becomes a
/// Status.
struct CudnnError : std::runtime_error {
  CudnnError(cudnnStatus_t s, const std::string& call);
  cudnnStatus_t status;
};
void check(cudnnStatus_t status, const char* call);

/// Owns one backend descriptor. set() and finalize() throw CudnnError.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& o) noexcept : raw_(std::exchange(o.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& o) noexcept {
    if (this != &o) {
      reset();
      raw_ = std::exchange(o.raw_, nullptr);
    }
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  cudnnBackendDescriptor_t raw() const { return raw_; }

  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, std::int64_t count,
                  const void* values);
  Descriptor& set(cudnnBackendAttributeName_t name, std::int64_t value) {
    return set(name, CUDNN_TYPE_INT64, 1, &value);
  }
  Descriptor& set(cudnnBackendAttributeName_t name, std::span<const std::int64_t> values) {
    return set(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& child) {
    const cudnnBackendDescriptor_t raw = child.raw();
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &raw);
  }
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
    return set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
  }
  Descriptor& set(cudnnBackendAttributeName_t name, double value) {
    return set(name, CUDNN_TYPE_DOUBLE, 1, &value);
  }
  Descriptor& finalize();

  std::int64_t get_int64(cudnnBackendAttributeName_t name) const;
  std::string get_text(cudnnBackendAttributeName_t name) const;

 private:
  void reset();
  cudnnBackendDescriptor_t raw_ = nullptr;
};

/// What cuDNN knows of a device: its properties, as JSON and as a descriptor.
class DeviceDescription {
 public:
  /// Of the GPU with this index; it has to be there.
  static DeviceDescription of_device(int index);
  /// Of a profile (kernels/emu/profiles/*.json).
  static DeviceDescription of_json(const std::string& json);

  const Descriptor& descriptor() const { return descriptor_; }
  const std::string& json() const { return json_; }

 private:
  DeviceDescription(Descriptor descriptor, std::string json)
      : descriptor_(std::move(descriptor)), json_(std::move(json)) {}
  Descriptor descriptor_;
  std::string json_;
};

/// The three graphs of a convolution. Which one is meant is never guessed from shapes.
enum class Pass : std::int32_t { fprop, dgrad, wgrad };
const char* name_of(Pass pass);

/// Everything that a plan depends on besides the device and cuDNN's version. A plain struct without padding,
/// compared by its bytes.
struct ConvGraph {
  std::int64_t x[4] = {};  // N, H, W, C
  std::int64_t w[4] = {};  // K, R, S, C/groups
  std::int64_t y[4] = {};  // N, P, Q, K
  std::int32_t stride[2] = {1, 1};
  std::int32_t padding[2] = {};
  std::int32_t dilation[2] = {1, 1};
  Pass pass = Pass::fprop;
  std::int32_t dtype = 0;       // DType of x, w and y (dx, dw, dy in the backward passes)
  std::int32_t tf32 = 0;        // fp32 only: tensor cores, with inputs rounded to TF32
  std::int32_t add = 0;         // the result is added to what is there (beta = 1)
  std::int32_t bias = 0;        // fprop: fp32 [K] is added
  std::int32_t residual = 0;    // fprop: [N,P,Q,K] is added
  std::int32_t relu = 0;        // fprop: max(., 0) at the end
  std::int32_t alignment = 16;  // of every pointer, in bytes: a power of two up to 16

  DType type() const { return static_cast<DType>(dtype); }
  bool operator<(const ConvGraph& o) const { return std::memcmp(this, &o, sizeof *this) < 0; }
  bool operator==(const ConvGraph& o) const { return std::memcmp(this, &o, sizeof *this) == 0; }
};
static_assert(std::has_unique_object_representations_v<ConvGraph>, "compared by bytes: no padding allowed");
/// "fprop bf16 x[32,56,56,64] w[64,3,3,64] y[32,56,56,64] stride 1x1 ..."
std::string to_string(const ConvGraph& graph);

/// The tensors of a graph, as cuDNN's unique ids.
enum Uid : std::int64_t { kUidX = 1, kUidW = 2, kUidY = 3, kUidBias = 4, kUidResidual = 5 };
/// The tensors that the caller hands in, in the order of Plan::execute's pointers.
std::vector<std::int64_t> uids_of(const ConvGraph& graph);

/// How much workspace a plan for this graph may take. 16-bit plans that are fast need next to none once
/// channels are a multiple of 8 (0 to 6 MB at ResNet-18's shapes, batch 32): 64 MiB. fp32 plans on tensor
/// cores transpose their tensors (400 MB and more on sm_80): 512 MiB, or a copy of the tensors where that is
/// more, as at batch 256.
std::size_t workspace_limit(const ConvGraph& graph);

/// What an engine says of itself (cudnnBackendNumericalNote_t, cudnnBackendBehaviorNote_t).
struct EngineNotes {
  std::int64_t engine = -1;  // cuDNN's global index
  bool tensor_core = false;
  bool deterministic = true;
  bool reduced_precision = false;  // sums, or inputs, in less than fp32 asks for
  bool runtime_compiled = false;
  bool large_winograd = false;  // tiles of 6x6 and more lose several bits
};

/// A finalised execution plan with what was learnt of it.
struct Plan {
  Descriptor descriptor;
  std::size_t workspace = 0;
  EngineNotes notes;
  std::string json;  // for the cache on disk

  /// Queues the convolution on the handle's stream. `pointers` in the order of uids_of(graph).
  void execute(cudnnHandle_t handle, std::span<const std::int64_t> uids, std::span<void* const> pointers,
               void* workspace_memory) const;
};

/// The engine configurations that one of cuDNN's heuristics proposes for an operation graph, best first; none
/// where it has nothing.
std::vector<Descriptor> propose(const Descriptor& graph, const DeviceDescription& device,
                                cudnnBackendHeurMode_t mode);
/// What a proposed configuration's engine says of itself.
EngineNotes examine(const Descriptor& config);
/// Nothing where cuDNN refuses the configuration for this device.
std::optional<Plan> finalize_plan(const Descriptor& config, const EngineNotes& notes,
                                  const DeviceDescription& device);

/// Asks cuDNN's heuristics and takes the first plan that is deterministic, accumulates in fp32, needs no
/// compiler at run time, keeps to the workspace limit and, except for strict fp32, uses tensor cores; strict
/// fp32 takes only plans without them. Where none uses tensor cores, the first that keeps the rest. Throws
/// CudnnError with the reasons where there is none: the caller has plain kernels.
Plan choose_plan(const ConvGraph& graph, const DeviceDescription& device, std::size_t limit);
/// A plan from Plan::json. Throws CudnnError where cuDNN refuses it.
Plan load_plan(const std::string& json, const EngineNotes& notes, const DeviceDescription& device);

}  // namespace cairn::kernels::cudnn
