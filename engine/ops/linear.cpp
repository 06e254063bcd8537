#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "engine/ops/fused_relu.h"
#include "kernels/gemm.h"

namespace cairn {

// y = act(x w^T + bias). Saves x and w; with a fused ReLU also y.
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation) {
  constexpr const char* kOp = "linear";
  ops::require_floating(x, kOp);
  ops::require_rank(x, 2, kOp, "input");
  ops::require_rank(w, 2, kOp, "weight");
  ops::require(
      x.size(1) == w.size(1), kOp,
      "weight has " + std::to_string(w.size(1)) + " input features, input has " + std::to_string(x.size(1)));
  ops::require_parameter(x, w, w.shape(), kOp, "weight");
  if (bias.defined()) ops::require_parameter(x, bias, {w.size(0)}, kOp, "bias");
  Tensor y = empty({x.size(0), w.size(0)}, x.dtype(), x.device());
  call(kernels::linear_forward, x.queue(),
       {.x = x.view(), .w = w.view(), .bias = bias.view(), .y = y.out(), .activation = activation});
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

}  // namespace cairn
