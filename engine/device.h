#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/device.h"
#include "kernels/dispatch.h"
#include "kernels/error.h"

namespace cairn {

/// "cpu", "cuda", "cuda:1", "cuda-emu", "auto" -> a device that works. `auto` takes a working GPU, else the
/// CPU, and says why in `reason`. A device named and missing throws InputError with the cure; never a silent
/// fall-back.
Device parse_device(std::string_view text, std::string* reason = nullptr);

/// The queue on which the engine computes on this device; made on first use. The calling thread may then
/// queue work there.
const kernels::Queue& compute_queue(Device device);
/// Whether fp32 convolutions and matrix products on the device may use TF32 tensor cores, for what is queued
/// from now on. Initially not: fp32 is strict.
void allow_tf32(Device device, bool on);
/// The floating type in which the device may train fastest (on a CPU only a trial tells): bf16, fp16 or fp32.
DType fast_dtype(Device device);
/// Waits until everything queued on the device is done.
void synchronize(Device device);

/// Throws DTypeError where no kernel serves the arguments, Error otherwise; returns if ok.
void check(const kernels::Status& status);

/// What the caching allocator of a device holds, in bytes; counts since the process began.
struct MemoryStats {
  std::int64_t in_use = 0;
  std::int64_t peak_in_use = 0;
  std::int64_t reserved = 0;  // in use and cached
  std::int64_t device_allocations = 0;
};
MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device);
/// Gives cached memory back to the device.
void release_cached_memory(Device device);

}  // namespace cairn
