#pragma once
/// What a kernel would cost on a GPU, estimated from what the emulated device counted of it and from what
/// ptxas said of its code. An estimate: it knows no caches, no instruction but memory accesses and no launch
/// overhead; a measurement on the GPU replaces it.
#include <span>
#include <string>
#include <string_view>

#include "kernels/measuring.h"

namespace cairn::kernels {

/// A GPU as the estimates see it. NVIDIA's data sheets (of the GeForce cards, the white papers) and CUDA C++
/// Programming Guide, "Technical Specifications per Compute Capability"; ids are those of
/// kernels/emu/profiles.
struct GpuModel {
  std::string_view id;  // "sm90_H100"
  int architecture;     // 90
  int multiprocessors;
  double clock_ghz;    // boost
  double memory_gb_s;  // data sheet
  /// On tensor cores in bf16 (the T4: fp16, it has none in bf16), dense, summed in fp32.
  double tensor_tflops;
  int warps, blocks;    // resident on a multiprocessor
  int shared_bytes;     // of a multiprocessor
  int reserved_shared;  // of each block, by CUDA
  int shared_unit;      // shared memory is given out in multiples of it
};
std::span<const GpuModel> gpu_models();
/// Null for an unknown id.
const GpuModel* find_gpu(std::string_view id);

/// What ptxas made of a kernel for one architecture.
struct KernelCode {
  int registers = 0;  // of a thread
  int shared = 0;     // static, bytes of a block
  int spills = 0;     // bytes stored and loaded
};
/// From the table that scripts/ptxas-table writes. `kernel` as KernelCounters has it. Null where the kernel
/// or the architecture is not in the table: a kernel of a plugin, or one built in double.
const KernelCode* ptxas_of(std::string_view kernel, int architecture);

/// Share of a multiprocessor's warps that can be resident (CUDA C++ Programming Guide, "Multiprocessor
/// Level"); 0 where a block does not fit.
double occupancy(const GpuModel& gpu, int registers, std::int64_t shared_bytes, std::int64_t threads);

/// Microseconds of all launches together.
struct Estimate {
  double memory = 0;   // every sector from memory, at the data sheet's rate
  double shared = 0;   // every pass through the banks, one a clock on each multiprocessor
  double atomics = 0;  // additions to one address, one after the other
  /// Each request of a warp waits for the one before it, with as many warps resident as occupancy allows. A
  /// kernel whose loads do not depend on each other is faster than this. 0 where ptxas's word is missing.
  double waiting = 0;
  double occupancy = 0;  // 0 where ptxas's word is missing

  double least() const;
  /// "memory", "shared memory" or "atomics": what sets least().
  std::string limit() const;
};
Estimate estimate(const KernelCounters& kernel, const GpuModel& gpu);

}  // namespace cairn::kernels
