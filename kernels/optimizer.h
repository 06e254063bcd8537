#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// What changes from step to step. Lives in device memory ([1] of this struct, as bytes), read when the
/// kernel runs, so that a captured graph replays with new values.
struct StepScalars {
  float lr = 0;
  float bias_correction1 = 1;  // 1 - beta1^t
  float bias_correction2 = 1;  // 1 - beta2^t
  float grad_scale = 1;        // multiplies every gradient first: 1 / loss scale
  std::int32_t step = 0;       // t, counted from 1
};

/// Common to the optimisers below.
/// All optimisers: param, grad and state are flat [n] fp32 (fp64 in checks); shadow, optional, [n] bf16 or
/// fp16, receives the rounded new parameters. The gradient used is g = grad_scale * clip * grad with clip =
/// min(1, max_norm / (grad_scale * norm + 1e-6)) where max_norm > 0 and grad_norm [1] is given (as
/// torch.nn.utils.clip_grad_norm_). lr is the scalars' times lr_scale, the factor of a parameter group. With
/// `nonfinite` [1] int32 given and non-zero, nothing is changed.

/// torch.optim.SGD: g += weight_decay * p; b = momentum * b + g (b = g at first_step); p -= lr * (nesterov ?
/// g + momentum * b : b).
struct SgdStep {
  View param;
  ConstView grad;
  View momentum_buffer;  // absent where momentum = 0
  View shadow;
  const StepScalars* scalars = nullptr;
  ConstView grad_norm;
  ConstView nonfinite;
  float max_norm = 0;
  float lr_scale = 1;
  float momentum = 0;
  float weight_decay = 0;
  bool nesterov = false;
  DType dtype() const { return param.dtype; }
};

/// torch.optim.Adam (decoupled = false: L2 in the gradient) and AdamW (decoupled = true: p *= 1 - lr *
/// weight_decay): m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; p -= lr / bias_correction1 * m / (sqrt(v) /
/// sqrt(bias_correction2) + eps).
struct AdamStep {
  View param;
  ConstView grad;
  View exp_avg;
  View exp_avg_sq;
  View shadow;
  const StepScalars* scalars = nullptr;
  ConstView grad_norm;
  ConstView nonfinite;
  float max_norm = 0;
  float lr_scale = 1;
  float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;
  float weight_decay = 0;
  bool decoupled = false;
  DType dtype() const { return param.dtype; }
};

/// Exponential moving average of the parameters: average += (1 - d) * (param - average) with d = min(decay,
/// (1 + t) / (10 + t)), so that the first steps, far from where training ends, are soon forgotten (as
/// TensorFlow's ExponentialMovingAverage with num_updates). Flat [n] fp32 (fp64 in checks).
struct EmaStep {
  View average;
  ConstView param;
  const StepScalars* scalars = nullptr;
  ConstView nonfinite;
  float decay = 0;
  DType dtype() const { return average.dtype; }
};

/// flag [1] int32 = 1 if any element of x is infinite or NaN; else left as it is.
struct CheckFinite {
  ConstView x;
  View flag;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<SgdStep> sgd_step("sgd_step");
inline constinit KernelSlot<AdamStep> adam_step("adam_step");
inline constinit KernelSlot<EmaStep> ema_step("ema_step");
inline constinit KernelSlot<CheckFinite> check_finite("check_finite");

}  // namespace cairn::kernels
