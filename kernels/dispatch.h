#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "kernels/view.h"

namespace cairn {

/// The emulated device runs the CUDA sources on the host; a build holds cuda or cuda_emu, never both.
enum class DeviceType : std::uint8_t { cpu, cuda, cuda_emu };
inline constexpr int kDeviceTypeCount = 3;
/// "cpu", "cuda", "cuda-emu", as --device spells them.
const char* name_of(DeviceType t);

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};
/// "cpu", "cuda:0", "cuda-emu:0"
std::string to_string(Device device);

namespace kernels {

/// Where work is queued: a device and, on CUDA, a stream (cudaStream_t). On the CPU work runs at once.
struct Queue {
  Device device;
  void* stream = nullptr;
  /// fp32 convolutions and matrix products may round their inputs to TF32 (10 bits of mantissa) and use
  /// tensor cores. Strict fp32 unless it was asked for.
  bool allow_tf32 = false;
};

/// What a kernel answers. Kernels never throw; the engine turns a failure into an exception.
class [[nodiscard]] Status {
 public:
  enum class Code : std::uint8_t { ok, no_kernel, failed, out_of_memory };
  Status() = default;
  static Status error(std::string message, Code code = Code::failed) {
    Status s;
    s.code_ = code;
    s.message_ = std::move(message);
    return s;
  }
  bool ok() const { return code_ == Code::ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::ok;
  std::string message_;
};

/// The part of a slot that does not depend on its arguments: its name and where it is filled.
class SlotBase {
 public:
  const char* name() const { return name_; }
  bool filled(DeviceType device, DType dtype) const {
    return filled_[static_cast<int>(device)][static_cast<int>(dtype)];
  }

 protected:
  constexpr explicit SlotBase(const char* name) : name_(name) {}
  void mark(DeviceType device, DType dtype, bool on);
  /// "[max_pool2d] no fp16 kernel on device 'cpu'; available: fp32, bf16"
  Status missing(DeviceType device, DType dtype) const;

 private:
  friend std::vector<const SlotBase*> all_slots();
  const char* name_;
  bool listed_ = false;
  SlotBase* next_ = nullptr;
  bool filled_[kDeviceTypeCount][kDTypeCount] = {};
};

/// Every slot that some backend has filled, by name.
std::vector<const SlotBase*> all_slots();

/// One operation, filled by each backend for each dtype it serves. `Args` is a plain struct of views and
/// geometry with a member `DType dtype() const` that picks the kernel. If it has members `void* scratch` and
/// `size_t scratch_bytes`, the caller first asks workspace() and hands that much memory in.
/// Slots are inline constinit variables in the op's header: a backend may fill them from static initialisers
/// in any order, and a new op touches no common file.
template <class Args>
class KernelSlot : public SlotBase {
 public:
  using Run = Status (*)(const Queue&, const Args&);
  using Workspace = std::size_t (*)(const Queue&, const Args&);
  struct Entry {
    Run run = nullptr;
    Workspace workspace = nullptr;
  };

  constexpr explicit KernelSlot(const char* name) : SlotBase(name) {}

  /// Fills (or, with a null `run`, empties) the slot; returns what was there, so that a test can put it back.
  Entry fill(DeviceType device, DType dtype, Run run, Workspace workspace_size = nullptr) {
    mark(device, dtype, run != nullptr);
    return std::exchange(at(device, dtype), Entry{run, workspace_size});
  }
  std::size_t workspace(const Queue& queue, const Args& args) const {
    const Entry& e = at(queue.device.type, args.dtype());
    return e.workspace ? e.workspace(queue, args) : 0;
  }
  Status operator()(const Queue& queue, const Args& args) const {
    const Entry& e = at(queue.device.type, args.dtype());
    return e.run ? e.run(queue, args) : missing(queue.device.type, args.dtype());
  }

 private:
  const Entry& at(DeviceType device, DType dtype) const {
    return entries_[static_cast<int>(device)][static_cast<int>(dtype)];
  }
  Entry& at(DeviceType device, DType dtype) {
    return entries_[static_cast<int>(device)][static_cast<int>(dtype)];
  }
  Entry entries_[kDeviceTypeCount][kDTypeCount] = {};
};

/// Fills a slot when the library that holds it is loaded:
///   const Fill kFill{relu_forward, DeviceType::cpu, DType::f32, &relu_forward_cpu<float>};
struct Fill {
  template <class Args>
  Fill(KernelSlot<Args>& slot, DeviceType device, DType dtype, typename KernelSlot<Args>::Run run,
       typename KernelSlot<Args>::Workspace workspace = nullptr) {
    slot.fill(device, dtype, run, workspace);
  }
};

}  // namespace kernels
}  // namespace cairn
