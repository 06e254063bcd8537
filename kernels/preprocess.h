#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y[n,h,w,c] = (x[n,h,w,c] / 255 - mean[c]) / std[c], mirrored in w where flip[n] is not 0.
/// x [N,H,W,3] uint8; y [N,H,W,C] in the compute dtype, C >= 3 (further channels are zero); flip [N] uint8,
/// optional.
struct Preprocess {
  ConstView x;
  ConstView flip;
  View y;
  float mean[3] = {0.5f, 0.5f, 0.5f};
  float std[3] = {0.5f, 0.5f, 0.5f};
  DType dtype() const { return y.dtype; }
};

inline constinit KernelSlot<Preprocess> preprocess("preprocess");

}  // namespace cairn::kernels
