#pragma once
#include "kernels/optimizer.h"

namespace cairn::kernels {

/// Dynamic loss scaling (Micikevicius et al. 2018, section 3.2, as torch.amp.GradScaler has it), between
/// check_finite and the optimiser's step, all in device memory, so that no step waits for the host:
///   scalars.grad_scale /= scale, the one that the loss was multiplied by;
///   where gradients overflowed: scale /= 2, good = 0, ++skipped (the optimiser skips the step itself);
///   else: ++good, and at growth_interval of them scale *= 2, good = 0.
/// The scale stays within 2^-24 ... 2^24. After a skipped step the bias corrections are computed anew for the
/// steps that were taken.
struct UpdateLossScale {
  View scale;           // [1] fp32
  View counters;        // [2] int32: good steps since the last change; skipped ones in all
  ConstView nonfinite;  // [1] int32
  StepScalars* scalars = nullptr;
  int growth_interval = 2000;
  float beta1 = 0, beta2 = 0;  // of the bias corrections
  DType dtype() const { return scale.dtype; }
};

inline constexpr float kLargestLossScale = 0x1p24f, kSmallestLossScale = 0x1p-24f;

inline constinit KernelSlot<UpdateLossScale> update_loss_scale("update_loss_scale");

}  // namespace cairn::kernels
