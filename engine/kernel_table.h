#pragma once
#include <span>
#include <string>

#include "kernels/measuring.h"
#include "kernels/roofline.h"

namespace cairn {

/// What kernels moved, for people: "relu_kernel<float>: 1 launch, 0.524 MB read, 0.524 MB written, 16.0
/// sectors a request, 100 % coalesced".
std::string summary_of(const kernels::KernelCounters& kernel);

/// The same as a table, and for each GPU one of what ptxas says of the kernels and an estimate of their least
/// time, which is called an estimate.
std::string kernel_table(std::span<const kernels::KernelCounters> kernels,
                         std::span<const kernels::GpuModel* const> gpus);

}  // namespace cairn
