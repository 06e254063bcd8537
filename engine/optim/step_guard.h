#pragma once
#include <cstdint>

#include "engine/tensor.h"
#include "kernels/step_guard.h"

namespace cairn::optim {

struct LossScaleOptions {
  float initial_scale = 65536.0f;  // a power of two, so that scaling rounds nothing
  int growth_interval = 2000;      // good steps until the scale is doubled
};

/// Looks, in every step and on the device itself, whether loss and gradients are finite; a step where they
/// are not changes nothing. With scale_loss() it also keeps the dynamic loss scale of fp16, whose gradients
/// would fall below 6e-8 and vanish: loss.backward(guard.scale()); optimizer.step(lr). The rules stand in
/// kernels/step_guard.h.
class StepGuard {
 public:
  explicit StepGuard(Device device);
  StepGuard(const StepGuard&) = delete;
  StepGuard& operator=(const StepGuard&) = delete;

  /// From now on gradients come multiplied by scale(). Throws DTypeError on a device without fp16 training
  /// (the CPU), InputError for options out of range.
  void scale_loss(const LossScaleOptions& options = {});
  const Tensor& scale() const { return scale_; }  // [1] fp32: hand it to backward(); undefined without
  const Tensor& nonfinite() const { return nonfinite_; }  // [1] int32: 1 if the last step was left out
  const Tensor& report() const { return report_; }        // [sizeof(kernels::StepReport)] uint8, of it

  /// Whether a step that no loss scale cures stops those behind it too, until release(): for a caller that
  /// reads the reports a step late, and wants the model as it was before the bad step. At first not.
  void hold(bool on) { hold_ = on; }
  void release();

  /// Decides what becomes of a step. `grads`: all gradients, or their norm, which is finite where they are.
  /// `loss` may be undefined. Divides scalars.grad_scale (device memory) by the scale. Kernels only.
  void settle(const Tensor& grads, const Tensor& loss, kernels::StepScalars* scalars, float beta1,
              float beta2);

  /// What a checkpoint keeps. read() waits for the device.
  struct State {
    float scale = 0;              // 0 without loss scaling
    std::int32_t good_steps = 0;  // since the scale changed
    std::int32_t skipped_steps = 0;
  };
  State read() const;
  void restore(const State& state);

 private:
  LossScaleOptions options_;
  bool hold_ = false;
  Tensor scale_;      // [1] fp32
  Tensor counters_;   // [3] int32
  Tensor nonfinite_;  // [1] int32
  Tensor report_;
};

}  // namespace cairn::optim
