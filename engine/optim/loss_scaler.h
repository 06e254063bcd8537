#pragma once
#include <cstdint>

#include "engine/tensor.h"
#include "kernels/loss_scale.h"

namespace cairn::optim {

struct LossScalerOptions {
  float initial_scale = 65536.0f;  // a power of two, so that scaling rounds nothing
  int growth_interval = 2000;      // good steps until the scale is doubled
};

/// Dynamic loss scaling for fp16, whose gradients would fall below 6e-8 and vanish. One step:
/// loss.backward(scaler.scale()); optimizer.step(lr), to which the scaler was given by set_loss_scaler().
/// Where gradients overflow the optimiser changes nothing and the scale is halved. Everything is decided on
/// the device.
class LossScaler {
 public:
  /// Throws DTypeError on a device without fp16 training (the CPU).
  explicit LossScaler(Device device, const LossScalerOptions& options = {});
  LossScaler(const LossScaler&) = delete;
  LossScaler& operator=(const LossScaler&) = delete;

  const Tensor& scale() const { return scale_; }          // [1] fp32: hand it to backward()
  const Tensor& nonfinite() const { return nonfinite_; }  // [1] int32: 1 if the last step was skipped

  /// Looks for overflow in the flat gradients, divides scalars.grad_scale (device memory) by the scale and
  /// chooses the next one. Kernels only.
  void update(const Tensor& grads, kernels::StepScalars* scalars, float beta1, float beta2);

  /// What a checkpoint keeps. read() waits for the device.
  struct State {
    float scale = 0;
    std::int32_t good_steps = 0;  // since the scale changed
    std::int32_t skipped_steps = 0;
  };
  State read() const;
  void restore(const State& state);

 private:
  LossScalerOptions options_;
  Tensor scale_;      // [1] fp32
  Tensor counters_;   // [2] int32
  Tensor nonfinite_;  // [1] int32
};

}  // namespace cairn::optim
