#include "kernels/reduce.h"

#include <array>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

struct Plan {
  Shape kept;    // x's rank, 1 in reduced axes
  Shape result;  // what the caller sees
  std::int64_t count = 1;
};

Plan plan(const char* op, const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  ops::require_floating(x, op);
  std::array<bool, kMaxRank> reduced{};
  for (int a : axes) {
    if (a < 0) a += x.rank();
    ops::require(a >= 0 && a < x.rank(), op, "axis out of range for " + to_string(x.shape()));
    reduced[static_cast<std::size_t>(a)] = true;
  }
  Plan p;
  p.kept = x.shape();
  for (int i = 0; i < x.rank(); ++i) {
    const bool gone = axes.empty() || reduced[static_cast<std::size_t>(i)];
    if (gone) {
      p.count *= x.size(i);
      p.kept[i] = 1;
    }
    if (!gone || keepdim) p.result[p.result.rank++] = p.kept[i];
  }
  return p;
}

kernels::View as(kernels::View v, const Shape& shape) {
  v.shape = shape;
  return v;
}

// y = scale * sum of x over axes; dx = scale * dy, repeated.
Tensor scaled_sum(const char* op, const Tensor& x, const Plan& p, double scale) {
  Tensor y = empty(p.result, x.dtype(), x.device());
  call(kernels::reduce, x.queue(),
       {.op = kernels::ReduceOp::sum, .x = x.view(), .y = as(y.out(), p.kept), .scale = scale});
  return record(op, y, {x}, [kept = p.kept, scale](Grads& g) {
    if (auto dx = g.wants(0)) {
      // Adding a zero of dx's shape repeats dy over it.
      const Tensor dy = g.output_tensor().alias(kept);
      Tensor zero = zeros({1, 1, 1, 1}, dy.dtype(), dy.device());
      Shape one = kept;
      for (int i = 0; i < one.rank; ++i) one[i] = 1;
      call(kernels::binary_forward, dy.queue(),
           {kernels::BinaryOp::add, dy.view(), zero.alias(one).view(), dx->view, scale, dx->write});
    }
  });
}

}  // namespace

Tensor sum(const Tensor& x, std::vector<int> axes, bool keepdim) {
  return scaled_sum("sum", x, plan("sum", x, axes, keepdim), 1.0);
}

Tensor mean(const Tensor& x, std::vector<int> axes, bool keepdim) {
  const Plan p = plan("mean", x, axes, keepdim);
  ops::require(p.count > 0, "mean", "no elements to average in " + to_string(x.shape()));
  return scaled_sum("mean", x, p, 1.0 / static_cast<double>(p.count));
}

// y = largest x over axes; dx = dy shared evenly among the largest. Saves x and y.
Tensor max(const Tensor& x, std::vector<int> axes, bool keepdim) {
  const Plan p = plan("max", x, axes, keepdim);
  ops::require(p.count > 0, "max", "no elements in " + to_string(x.shape()));
  Tensor y = empty(p.result, x.dtype(), x.device());
  call(kernels::reduce, x.queue(), {.op = kernels::ReduceOp::max, .x = x.view(), .y = as(y.out(), p.kept)});
  return record("max", y, {x}, [x = Saved(x), y = Saved(y), kept = p.kept](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::reduce_max_backward, compute_queue(x.tensor().device()),
           {x.view(), y.tensor().alias(kept).view(), g.output_tensor().alias(kept).view(), dx->view,
            dx->write});
  });
}

}  // namespace cairn
