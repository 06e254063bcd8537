#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/pointwise.h"
#include "kernels/reduce.h"

namespace cairn {
namespace {

using kernels::BinaryOp;

/// The common shape under NumPy's rule: aligned at the last axis, a length of 1 is repeated.
Shape broadcast_shape(const char* op, const Shape& a, const Shape& b) {
  Shape y;
  y.rank = std::max(a.rank, b.rank);
  for (int i = 1; i <= y.rank; ++i) {
    const std::int64_t da = i <= a.rank ? a[a.rank - i] : 1;
    const std::int64_t db = i <= b.rank ? b[b.rank - i] : 1;
    ops::require(da == db || da == 1 || db == 1, op,
                 "shapes " + to_string(a) + " and " + to_string(b) + " cannot be broadcast");
    y[y.rank - i] = da == 1 ? db : da;
  }
  return y;
}

/// The same tensor with leading axes of length 1, so that it has `rank` axes.
kernels::ConstView pad_rank(const Tensor& t, int rank) {
  kernels::ConstView v = t.view();
  Shape s;
  s.rank = rank;
  for (int i = 0; i < rank; ++i) s[i] = i < rank - v.shape.rank ? 1 : v.shape[i - (rank - v.shape.rank)];
  v.shape = s;
  return v;
}

/// Lands scale * op(dy, factor) in an input's gradient, summed over the axes in which the input was repeated.
void land(Grads& g, std::size_t input, const kernels::ConstView& dy, BinaryOp op,
          const kernels::ConstView& factor, float scale, const Shape& input_shape) {
  const auto target = g.wants(input);
  if (!target) return;
  const kernels::Queue& queue = g.output_tensor().queue();
  kernels::View out = target->view;
  Shape padded;
  padded.rank = dy.shape.rank;
  for (int i = 0; i < padded.rank; ++i) {
    const int j = i - (padded.rank - input_shape.rank);
    padded[i] = j < 0 ? 1 : input_shape[j];
  }
  out.shape = padded;
  const bool repeated = !(padded == dy.shape);
  if (!factor) {
    if (repeated)
      call(kernels::reduce, queue,
           {.op = kernels::ReduceOp::sum, .x = dy, .y = out, .scale = scale, .write = target->write});
    else
      call(kernels::affine, queue, {dy, out, scale, 0.0f, target->write});
    return;
  }
  if (!repeated) {
    call(kernels::binary_forward, queue, {op, dy, factor, out, scale, target->write});
    return;
  }
  Tensor each = empty(dy.shape, dy.dtype, g.output_tensor().device());
  call(kernels::binary_forward, queue, {op, dy, factor, each.out(), scale});
  call(kernels::reduce, queue,
       {.op = kernels::ReduceOp::sum, .x = each.view(), .y = out, .write = target->write});
}

/// y = op(a, b), the checks and the forward pass.
Tensor forward(const char* name, BinaryOp op, const Tensor& a, const Tensor& b) {
  ops::require_floating(a, name);
  ops::require_dtype(b, a.dtype(), name, "the second operand");
  ops::require_same_device(a, b, name, "the second operand");
  Tensor y = empty(broadcast_shape(name, a.shape(), b.shape()), a.dtype(), a.device());
  call(kernels::binary_forward, a.queue(), {op, pad_rank(a, y.rank()), pad_rank(b, y.rank()), y.out()});
  return y;
}

}  // namespace

// y = a + b; da = dy, db = dy: handed on where nobody else holds it.
Tensor add(const Tensor& a, const Tensor& b) {
  Tensor y = forward("add", BinaryOp::add, a, b);
  return record("add", y, {a, b}, [sa = a.shape(), sb = b.shape(), sy = y.shape()](Grads& g) {
    for (const auto& [input, shape] : {std::pair{std::size_t{0}, sa}, std::pair{std::size_t{1}, sb}}) {
      if (shape.numel() == sy.numel())
        g.give(input, g.output_tensor());
      else
        land(g, input, g.output(), BinaryOp::add, {}, 1.0f, shape);
    }
  });
}

// y = a - b; da = dy, db = -dy.
Tensor sub(const Tensor& a, const Tensor& b) {
  Tensor y = forward("sub", BinaryOp::sub, a, b);
  return record("sub", y, {a, b}, [sa = a.shape(), sb = b.shape()](Grads& g) {
    land(g, 0, g.output(), BinaryOp::add, {}, 1.0f, sa);
    land(g, 1, g.output(), BinaryOp::add, {}, -1.0f, sb);
  });
}

// y = a * b; da = dy * b, db = dy * a. Saves both.
Tensor mul(const Tensor& a, const Tensor& b) {
  Tensor y = forward("mul", BinaryOp::mul, a, b);
  return record("mul", y, {a, b}, [a = Saved(a), b = Saved(b)](Grads& g) {
    const int rank = g.output().shape.rank;
    land(g, 0, g.output(), BinaryOp::mul, pad_rank(b.tensor(), rank), 1.0f, a.tensor().shape());
    land(g, 1, g.output(), BinaryOp::mul, pad_rank(a.tensor(), rank), 1.0f, b.tensor().shape());
  });
}

// y = a / b; da = dy / b, db = -dy * y / b. Saves b and y.
Tensor div(const Tensor& a, const Tensor& b) {
  Tensor y = forward("div", BinaryOp::div, a, b);
  return record("div", y, {a, b}, [sa = a.shape(), b = Saved(b), y = Saved(y)](Grads& g) {
    const int rank = g.output().shape.rank;
    land(g, 0, g.output(), BinaryOp::div, pad_rank(b.tensor(), rank), 1.0f, sa);
    if (!g.needs(1)) return;
    Tensor t = empty_like(y.tensor());
    call(kernels::binary_forward, t.queue(), {BinaryOp::mul, g.output(), y.view(), t.out()});
    land(g, 1, t.view(), BinaryOp::div, pad_rank(b.tensor(), rank), -1.0f, b.tensor().shape());
  });
}

}  // namespace cairn
