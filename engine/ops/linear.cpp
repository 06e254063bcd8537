#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "engine/ops/fused_relu.h"
#include "engine/ops/pack.h"
#include "kernels/gemm.h"

namespace cairn {

namespace {

/// Checks the arguments; the call without a result.
kernels::LinearForward described(const char* op, const Tensor& x, const Tensor& w, const Tensor& bias,
                                 Activation activation) {
  ops::require_floating(x, op);
  ops::require_rank(x, 2, op, "input");
  ops::require_rank(w, 2, op, "weight");
  ops::require(
      x.size(1) == w.size(1), op,
      "weight has " + std::to_string(w.size(1)) + " input features, input has " + std::to_string(x.size(1)));
  ops::require_parameter(x, w, w.shape(), op, "weight");
  if (bias.defined()) ops::require_parameter(x, bias, {w.size(0)}, op, "bias");
  return {.x = x.view(),
          .w = w.view(),
          .bias = bias.view(),
          .y = {nullptr, x.dtype(), {x.size(0), w.size(0)}},
          .activation = activation};
}

Tensor forward(const Tensor& x, kernels::LinearForward args) {
  Tensor y = empty(args.y.shape, x.dtype(), x.device());
  args.y = y.out();
  call(kernels::linear_forward, x.queue(), args);
  return y;
}

}  // namespace

// y = act(x w^T + bias). Saves x and w; with a fused ReLU also y.
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation) {
  constexpr const char* kOp = "linear";
  Tensor y = forward(x, described(kOp, x, w, bias, activation));
  const Saved saved_y = ops::saved_for_relu(activation, {&x, &w, &bias}, y);
  return record(kOp, y, {x, w, bias}, [x = Saved(x), w = Saved(w), saved_y](Grads& g) {
    const Tensor dy = ops::before_relu(saved_y, g.output_tensor());
    const kernels::Queue& queue = dy.queue();
    if (auto dx = g.wants(0))
      call(kernels::linear_backward_data, queue,
           {.dy = dy.view(), .w = w.view(), .dx = dx->view, .write = dx->write});
    const auto dw = g.wants(1);
    const auto dbias = g.wants(2);
    if (dw || dbias) {
      Tensor unwanted = dw ? Tensor() : empty_like(w.tensor());
      call(kernels::linear_backward_weight, queue,
           {.x = x.view(),
            .dy = dy.view(),
            .dw = dw ? dw->view : unwanted.out(),
            .dbias = dbias ? dbias->view : kernels::View{},
            .write = dw ? dw->write : kernels::Write::assign,
            .dbias_write = dbias ? dbias->write : kernels::Write::assign});
    }
  });
}

Tensor linear_packed(const Tensor& x, const Tensor& w, const Tensor& packed, const Tensor& bias,
                     Activation activation) {
  if (wants_grad({&x, &w, &bias}))
    throw Error("[linear_packed] has no gradient: use linear(), or a NoGrad around it");
  kernels::LinearForward args = described("linear_packed", x, w, bias, activation);
  args.packed = packed.view().data;
  return forward(x, args);
}

Tensor pack_linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation) {
  const kernels::LinearForward forward = described("pack_linear", x, w, bias, activation);
  return ops::packed_by(kernels::linear_pack, x, kernels::LinearPack{.forward = forward});
}

}  // namespace cairn
