#pragma once
#include "engine/autograd.h"
#include "engine/tensor.h"
#include "kernels/pointwise.h"

/// What ops with a ReLU fused behind them share.
namespace cairn::ops {

/// y where the backward of an op on `inputs` will need it for the ReLU's mask, else nothing.
inline Saved saved_for_relu(kernels::Activation activation, std::initializer_list<const Tensor*> inputs,
                            const Tensor& y) {
  return activation == kernels::Activation::relu && wants_grad(inputs) ? Saved(y) : Saved();
}

/// The gradient in front of the ReLU: dy where y > 0; dy itself where no y was saved.
inline Tensor before_relu(const Saved& y, const Tensor& dy) {
  if (!y.defined()) return dy;
  Tensor masked = empty_like(dy);
  call(kernels::relu_backward, dy.queue(), {y.view(), dy.view(), masked.out()});
  return masked;
}

}  // namespace cairn::ops
