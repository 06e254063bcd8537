#pragma once
#include "kernels/optimizer.h"

namespace cairn::kernels {

/// What became of a step.
enum class StepOutcome : std::int32_t {
  taken,
  overflowed,  // left out, and the loss scale halved: what fp16 does from time to time
  nonfinite,   // left out: its loss or its gradients are no numbers, whatever the scale
};

/// What a step leaves for the host. Lives in device memory ([1] of this struct, as bytes).
struct StepReport {
  float loss = 0;
  StepOutcome outcome = StepOutcome::taken;
};

/// Decides, between check_finite and the optimiser's kernels, what becomes of a step; all in device memory,
/// so that no step waits for the host. A step whose gradients (`nonfinite`) or loss are not finite is not
/// taken: nonfinite = 1, which the optimisers' kernels and keep_buffers read, ++skipped. After skipped steps
/// the bias corrections are computed anew for the steps that were taken.
/// With `scale`, dynamic loss scaling (Micikevicius et al. 2018, section 3.2, as torch.amp.GradScaler has
/// it): scalars.grad_scale /= scale, the one that the loss was multiplied by; where only gradients
/// overflowed, scale /= 2, good = 0; else ++good, and at growth_interval of them scale *= 2, good = 0. It
/// stays within 2^-24 ... 2^24; an overflow at the smallest is `nonfinite`.
/// With `hold`, a step that is `nonfinite` is not counted as skipped: it and all behind it are left out until
/// the host, which learns of it later, clears held.
struct SettleStep {
  ConstView loss;  // [1] fp32; absent: not looked at. In data parallel: of all processes, so that all agree
  View nonfinite;  // [1] int32
  View counters;   // [3] int32: good steps since the scale's last change; skipped ones in all; held
  View scale;      // [1] fp32; absent without loss scaling
  StepScalars* scalars = nullptr;
  StepReport* report = nullptr;
  bool hold = false;
  int growth_interval = 2000;
  float beta1 = 0, beta2 = 0;  // of the bias corrections
  DType dtype() const { return DType::f32; }
};

inline constexpr float kLargestLossScale = 0x1p24f, kSmallestLossScale = 0x1p-24f;

/// A buffer that forward passes change (batch norm's running statistics) and the values that it had after
/// the last step that was taken.
struct KeptBuffer {
  float* value = nullptr;  // [numel]
  float* kept = nullptr;   // [numel]
  std::int64_t numel = 0;
};

/// Commits the buffers with the update: kept = value where the step was taken, value = kept where it was not
/// (`nonfinite` [1] int32 is non-zero). All buffers in one launch.
struct KeepBuffers {
  const KeptBuffer* buffers = nullptr;  // [count], in device memory
  std::int64_t count = 0;
  std::int64_t largest = 0;  // of their numel
  ConstView nonfinite;
  DType dtype() const { return DType::f32; }
};

inline constinit KernelSlot<SettleStep> settle_step("settle_step");
inline constinit KernelSlot<KeepBuffers> keep_buffers("keep_buffers");

}  // namespace cairn::kernels
