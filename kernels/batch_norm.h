#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Batch normalisation over N, H, W for each channel (Ioffe & Szegedy 2015, alg. 1), with the residual add
/// and the activation that follow it in a ResNet block:
///   y = activation(gamma * (x - mean) * inv_std + beta + residual),  inv_std = 1 / sqrt(var + eps), var
///   biased.
/// x, residual, y: [N,H,W,C] or [N,C] in the compute dtype; all else [C] fp32 (fp64 where x is fp64).
/// running_mean = (1 - momentum) * running_mean + momentum * mean; running_var likewise with the unbiased
/// variance, as in PyTorch. residual, running_* optional. Writes mean and inv_std for the backward pass.
struct BatchNormForward {
  ConstView x;
  ConstView gamma;
  ConstView beta;
  ConstView residual;
  View y;
  View mean;
  View inv_std;
  View running_mean;
  View running_var;
  float momentum = 0.1f;
  float eps = 1e-5f;
  Activation activation = Activation::none;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

/// The same with the running statistics in place of the batch's.
struct BatchNormInference {
  ConstView x;
  ConstView gamma;
  ConstView beta;
  ConstView running_mean;
  ConstView running_var;
  ConstView residual;
  View y;
  float eps = 1e-5f;
  Activation activation = Activation::none;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

/// With g = dy where the activation passed, else 0, M = N*H*W, xhat = (x - mean) * inv_std:
///   dbeta = sum g; dgamma = sum g * xhat; dresidual = g;
///   dx = gamma * inv_std * (g - dbeta / M - xhat * dgamma / M).
/// The ReLU mask is y > 0 where y is given (needed with a residual), else recomputed from x exactly as the
/// forward pass computed it: fma(x, scale, shift) > 0. dresidual optional; dx may be absent. dx or dresidual
/// may be dy's memory.
struct BatchNormBackward {
  ConstView x;
  ConstView y;
  ConstView dy;
  ConstView gamma;
  ConstView beta;
  ConstView mean;
  ConstView inv_std;
  View dx;
  View dresidual;
  View dgamma;
  View dbeta;
  Write dx_write = Write::assign;
  Write dresidual_write = Write::assign;
  Write param_write = Write::assign;  // of dgamma and dbeta
  Activation activation = Activation::none;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

/// dx of the inference form: dx = g * gamma * inv_std(running_var); parameters as above with the running
/// mean. Frozen statistics carry no gradient. y is given where there is an activation.
struct BatchNormInferenceBackward {
  ConstView x;
  ConstView y;
  ConstView dy;
  ConstView gamma;
  ConstView running_mean;
  ConstView running_var;
  View dx;
  View dresidual;
  View dgamma;
  View dbeta;
  Write dx_write = Write::assign;
  Write dresidual_write = Write::assign;
  Write param_write = Write::assign;
  float eps = 1e-5f;
  Activation activation = Activation::none;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<BatchNormForward> batch_norm_forward("batch_norm_forward");
inline constinit KernelSlot<BatchNormInference> batch_norm_inference("batch_norm_inference");
inline constinit KernelSlot<BatchNormBackward> batch_norm_backward("batch_norm_backward");
inline constinit KernelSlot<BatchNormInferenceBackward> batch_norm_inference_backward(
    "batch_norm_inference_backward");

}  // namespace cairn::kernels
