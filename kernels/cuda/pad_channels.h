#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y[..., c] = x[..., c] converted to y's dtype for the channels that both have (their last axis), zero for
/// those that only y has. x and y agree in all other axes; either may have more channels. With Write::add
/// what y held is added. For libraries that are fast only where channels are a multiple of 8: on CUDA devices
/// alone.
struct PadChannels {
  ConstView x;
  View y;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

inline constinit KernelSlot<PadChannels> pad_channels("pad_channels");

}  // namespace cairn::kernels
