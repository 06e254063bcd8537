#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

using kernels::UnaryOp;

// y = op(x); dx = dy * op'(x). Saves y, and x for the log alone, whose derivative y does not give.
Tensor unary(const char* name, UnaryOp op, const Tensor& x) {
  ops::require_floating(x, name);
  Tensor y = empty_like(x);
  call(kernels::unary_forward, x.queue(), {op, x.view(), y.out()});
  const Tensor& kept_x = op == UnaryOp::log ? x : y;
  return record(name, y, {x}, [op, x = Saved(kept_x), y = Saved(y)](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::unary_backward, compute_queue(y.tensor().device()),
           {op, x.view(), y.view(), g.output(), dx->view, dx->write});
  });
}

}  // namespace

Tensor exp(const Tensor& x) { return unary("exp", UnaryOp::exp, x); }
Tensor log(const Tensor& x) { return unary("log", UnaryOp::log, x); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", UnaryOp::sqrt, x); }
Tensor sigmoid(const Tensor& x) { return unary("sigmoid", UnaryOp::sigmoid, x); }
Tensor tanh(const Tensor& x) { return unary("tanh", UnaryOp::tanh, x); }

// y = scale * x + shift; dx = scale * dy.
Tensor affine(const Tensor& x, float scale, float shift) {
  ops::require_floating(x, "affine");
  Tensor y = empty_like(x);
  call(kernels::affine, x.queue(), {x.view(), y.out(), scale, shift});
  return record("affine", y, {x}, [scale](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::affine, g.output_tensor().queue(), {g.output(), dx->view, scale, 0.0f, dx->write});
  });
}

// y = x in another floating dtype; dx = dy in x's.
Tensor cast(const Tensor& x, DType dtype) {
  ops::require_floating(x, "cast");
  if (!is_floating(dtype))
    throw DTypeError("[cast] to " + std::string(name_of(dtype)) + ": only floating dtypes");
  if (dtype == x.dtype()) return x;
  Tensor y = empty(x.shape(), dtype, x.device());
  call(kernels::cast, x.queue(), {x.view(), y.out()});
  return record("cast", y, {x}, [](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::cast, g.output_tensor().queue(), {g.output(), dx->view, dx->write});
  });
}

}  // namespace cairn
