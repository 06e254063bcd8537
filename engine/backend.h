#pragma once
#include <string>
#include <vector>

#include "kernels/dispatch.h"

namespace cairn {

/// A shared object of the CUDA backend that lies beside libcairn.so and is loaded when a device is first
/// asked for: libcairn_cuda.so (the kernels; linked, not loaded, in a build of the emulated device), then the
/// providers libcairn_cudnn.so and libcairn_cublaslt.so, which put NVIDIA's libraries in the place of plain
/// kernels.
struct BackendPart {
  std::string name;         // "kernels", "cuDNN", "cuBLASLt"
  bool in_build = false;    // the shared object is there
  bool works = false;       // it is loaded and can be used
  std::string found = {};   // what it is, e.g. "cuDNN 9.19.0", or why it does not work
  std::string advice = {};  // what to do where it does not
};

/// Loads each part that is there, once; what is missing is no error. CAIRN_WITHOUT=cudnn,cublaslt leaves
/// providers out, so that the plain kernels can be compared with them.
const std::vector<BackendPart>& backend_parts();

/// NCCL, which several processes on GPUs need: libcairn_nccl.so, loaded at the first call.
const BackendPart& collective_part();

/// Makes the CPU's kernels in double available, for gradient checks: libcairn_f64.so, beside libcairn.so.
/// Does nothing where they are there already. Throws Error if it cannot be loaded.
void load_fp64_kernels();

/// Empty if the device passed its launch self-test (made once a device; the CPU needs none); else one line
/// with the cure.
std::string device_fault(Device device);

/// For a device that is about to be used: empty, or one line to warn with, because plain kernels stand in for
/// a missing library.
std::string slow_kernels_warning(DeviceType type);

}  // namespace cairn
