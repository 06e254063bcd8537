#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "engine/ops/fused_relu.h"
#include "engine/ops/pack.h"
#include "engine/ops/shapes.h"

namespace cairn {
namespace {

constexpr const char* kOp = "conv2d";

std::int64_t output_length(std::int64_t in, std::int64_t filter, int stride, int padding, int dilation) {
  const std::int64_t span = in + 2 * padding - dilation * (filter - 1) - 1;
  return span < 0 ? 0 : span / stride + 1;
}

/// The forward pass, with what the views have in place of w where that was packed.
Tensor forward(const Tensor& x, const Tensor& w, const Tensor& packed, const Tensor& bias,
               const Conv2dGeometry& geometry, Activation activation, const Tensor& residual) {
  const Shape shape = ops::conv2d_shape(kOp, x, w, bias, geometry);
  if (residual.defined()) {
    ops::require(residual.shape() == shape, kOp,
                 "residual is " + to_string(residual.shape()) + ", the result " + to_string(shape));
    ops::require_dtype(residual, x.dtype(), kOp, "residual");
    ops::require_same_device(x, residual, kOp, "residual");
  }
  Tensor y = empty(shape, x.dtype(), x.device());
  call(kernels::conv2d_forward, x.queue(),
       {.x = x.view(),
        .w = w.view(),
        .bias = bias.view(),
        .residual = residual.view(),
        .y = y.out(),
        .geometry = geometry,
        .activation = activation,
        .packed = packed.view().data});
  return y;
}

}  // namespace

Shape ops::conv2d_shape(const char* op, const Tensor& x, const Tensor& w, const Tensor& bias,
                        const Conv2dGeometry& g) {
  require_floating(x, op);
  require_rank(x, 4, op, "input");
  require_rank(w, 4, op, "weight");
  require(g.groups >= 1 && g.stride_h >= 1 && g.stride_w >= 1 && g.dilation_h >= 1 && g.dilation_w >= 1 &&
              g.padding_h >= 0 && g.padding_w >= 0,
          op, "groups, stride and dilation must be at least 1, padding at least 0");
  require(x.size(3) == w.size(3) * g.groups, op,
          "weight has " + std::to_string(w.size(3)) + " input channels, input has " +
              std::to_string(x.size(3)) + " (groups = " + std::to_string(g.groups) + ')');
  require(w.size(0) % g.groups == 0, op,
          std::to_string(w.size(0)) + " output channels cannot be split into " + std::to_string(g.groups) +
              " groups");
  const Shape y{x.size(0), output_length(x.size(1), w.size(1), g.stride_h, g.padding_h, g.dilation_h),
                output_length(x.size(2), w.size(2), g.stride_w, g.padding_w, g.dilation_w), w.size(0)};
  require(y[1] > 0 && y[2] > 0, op,
          "input " + to_string(x.shape()) + " is smaller than the filter " + to_string(w.shape()));
  require_parameter(x, w, w.shape(), op, "weight");
  if (bias.defined()) require_parameter(x, bias, {w.size(0)}, op, "bias");
  return y;
}

// y[n,p,q,k] = act(bias[k] + residual[n,p,q,k] + sum_{r,s,c} x[n, p*stride+r*dilation-padding, ..., c]
// w[k,r,s,c]). Saves x and w; with a fused ReLU also y, whose mask turns dy into the gradient before the
// activation.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dGeometry& geometry,
              Activation activation, const Tensor& residual) {
  Tensor y = forward(x, w, {}, bias, geometry, activation, residual);
  const Saved saved_y = ops::saved_for_relu(activation, {&x, &w, &bias, &residual}, y);
  return record(kOp, y, {x, w, bias, residual}, [x = Saved(x), w = Saved(w), saved_y, geometry](Grads& g) {
    const Tensor dy = ops::before_relu(saved_y, g.output_tensor());
    const kernels::Queue& queue = dy.queue();
    if (auto dx = g.wants(0))
      call(kernels::conv2d_backward_data, queue,
           {.dy = dy.view(), .w = w.view(), .dx = dx->view, .geometry = geometry, .write = dx->write});
    const auto dw = g.wants(1);
    const auto dbias = g.wants(2);
    if (dw || dbias) {
      // The kernel makes both in one pass; a frozen weight with a trained bias still needs somewhere to land.
      Tensor unwanted = dw ? Tensor() : empty_like(w.tensor());
      call(kernels::conv2d_backward_weight, queue,
           {.x = x.view(),
            .dy = dy.view(),
            .dw = dw ? dw->view : unwanted.out(),
            .dbias = dbias ? dbias->view : kernels::View{},
            .geometry = geometry,
            .write = dw ? dw->write : kernels::Write::assign,
            .dbias_write = dbias ? dbias->write : kernels::Write::assign});
    }
    g.give(3, dy);
  });
}

Tensor conv2d_packed(const Tensor& x, const Tensor& w, const Tensor& packed, const Tensor& bias,
                     const Conv2dGeometry& geometry, Activation activation, const Tensor& residual) {
  if (wants_grad({&x, &w, &bias, &residual}))
    throw Error("[conv2d_packed] has no gradient: use conv2d(), or a NoGrad around it");
  return forward(x, w, packed, bias, geometry, activation, residual);
}

Tensor pack_conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dGeometry& geometry,
                   Activation activation, const Tensor& residual) {
  const Shape shape = ops::conv2d_shape("pack_conv2d", x, w, bias, geometry);
  // The pass is described, not run: that there is a residual counts, and that it is not the result's memory.
  return ops::packed_by(kernels::conv2d_pack, x,
                        kernels::Conv2dPack{.forward = {.x = x.view(),
                                                        .w = w.view(),
                                                        .bias = bias.view(),
                                                        .residual = residual.view(),
                                                        .y = {nullptr, x.dtype(), shape},
                                                        .geometry = geometry,
                                                        .activation = activation}});
}

}  // namespace cairn
