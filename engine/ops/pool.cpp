#include "kernels/pool.h"

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "engine/ops/shapes.h"

namespace cairn {

Shape ops::pool2d_shape(const char* op, const Shape& x, const Pool2dGeometry& g) {
  require(x.rank == 4, op, "input is " + to_string(x) + ", expected 4 axes");
  require(g.kernel_h >= 1 && g.kernel_w >= 1 && g.stride_h >= 1 && g.stride_w >= 1 && g.padding_h >= 0 &&
              g.padding_w >= 0,
          op, "kernel and stride must be at least 1, padding at least 0");
  require(2 * g.padding_h <= g.kernel_h && 2 * g.padding_w <= g.kernel_w, op,
          "padding is more than half the kernel");
  const std::int64_t h = x[1] + 2 * g.padding_h - g.kernel_h;
  const std::int64_t w = x[2] + 2 * g.padding_w - g.kernel_w;
  require(h >= 0 && w >= 0, op, "input " + to_string(x) + " is smaller than the window");
  return {x[0], h / g.stride_h + 1, w / g.stride_w + 1, x[3]};
}

// y = max over the window; dx = sum of dy over the windows that x won. Saves the winner's place in its
// window, a byte each.
Tensor max_pool2d(const Tensor& x, const Pool2dGeometry& geometry) {
  constexpr const char* kOp = "max_pool2d";
  ops::require_floating(x, kOp);
  Tensor y = empty(ops::pool2d_shape(kOp, x.shape(), geometry), x.dtype(), x.device());
  ops::require(geometry.kernel_h * geometry.kernel_w <= 256, kOp, "a window of more than 256 elements");
  const bool recorded = wants_grad({&x});
  Tensor index = recorded ? empty(y.shape(), DType::u8, x.device()) : Tensor();
  call(kernels::max_pool2d_forward, x.queue(), {x.view(), y.out(), index.out(), geometry, Activation::none});
  return record(kOp, y, {x}, [index, geometry](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::max_pool2d_backward, compute_queue(index.device()),
           {g.output(), index.view(), dx->view, geometry, dx->write});
  });
}

// y = mean over the window. Saves nothing.
Tensor avg_pool2d(const Tensor& x, const Pool2dGeometry& geometry, bool count_include_pad) {
  constexpr const char* kOp = "avg_pool2d";
  ops::require_floating(x, kOp);
  Tensor y = empty(ops::pool2d_shape(kOp, x.shape(), geometry), x.dtype(), x.device());
  call(kernels::avg_pool2d_forward, x.queue(), {x.view(), y.out(), geometry, count_include_pad});
  return record(kOp, y, {x}, [geometry, count_include_pad](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::avg_pool2d_backward, g.output_tensor().queue(),
           {g.output(), dx->view, geometry, count_include_pad, dx->write});
  });
}

// y[n,c] = mean over h, w. Saves nothing.
Tensor global_avg_pool(const Tensor& x) {
  constexpr const char* kOp = "global_avg_pool";
  ops::require_floating(x, kOp);
  ops::require_rank(x, 4, kOp, "input");
  ops::require(x.size(1) * x.size(2) > 0, kOp, "input " + to_string(x.shape()) + " has no pixels");
  Tensor y = empty({x.size(0), x.size(3)}, x.dtype(), x.device());
  call(kernels::global_avg_pool_forward, x.queue(), {x.view(), y.out()});
  return record(kOp, y, {x}, [](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::global_avg_pool_backward, g.output_tensor().queue(), {g.output(), dx->view, dx->write});
  });
}

}  // namespace cairn
