#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y[n,h,w,c] = (x[i, top + h, left + w, c] / 255 - mean[c]) / std[c] with i = index[n], or n without an
/// index, and (top, left) = crop[n], or 0 without a crop; mirrored in w, within the crop, where flip[n] is
/// not 0. x [I,X,Z,3] uint8, I = N without an index, X = H and Z = W without a crop; y [N,H,W,C] in the
/// compute dtype, C >= 3 (further channels are zero); flip [N] uint8, index [N] int32 in [0, I) and crop
/// [N,2] int32 in [0, X - H] and [0, Z - W], checked where they are made: all optional.
struct Preprocess {
  ConstView x;
  ConstView flip;
  ConstView index;
  ConstView crop;
  View y;
  float mean[3] = {0.5f, 0.5f, 0.5f};
  float std[3] = {0.5f, 0.5f, 0.5f};
  DType dtype() const { return y.dtype; }
};

inline constinit KernelSlot<Preprocess> preprocess("preprocess");

}  // namespace cairn::kernels
