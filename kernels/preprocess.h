#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y[n,h,w,c] = (x[i,h,w,c] / 255 - mean[c]) / std[c] with i = index[n], or n without an index; mirrored in w
/// where flip[n] is not 0.
/// x [I,H,W,3] uint8, I = N without an index; y [N,H,W,C] in the compute dtype, C >= 3 (further channels are
/// zero); flip [N] uint8 and index [N] int32 in [0, I), checked where it is made: both optional.
struct Preprocess {
  ConstView x;
  ConstView flip;
  ConstView index;
  View y;
  float mean[3] = {0.5f, 0.5f, 0.5f};
  float std[3] = {0.5f, 0.5f, 0.5f};
  DType dtype() const { return y.dtype; }
};

inline constinit KernelSlot<Preprocess> preprocess("preprocess");

}  // namespace cairn::kernels
