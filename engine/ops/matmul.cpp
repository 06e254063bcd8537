#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"

namespace cairn {
namespace {

Tensor batched(const Tensor& t) { return t.rank() == 3 ? t.detach() : t.alias({1, t.size(0), t.size(1)}); }

/// Lands op(a) op(b) in a gradient; a batch of one that was shared gets the sum over the batch.
void land(Grads& g, std::size_t input, const Tensor& a, bool ta, const Tensor& b, bool tb,
          const Shape& shape3) {
  const auto target = g.wants(input);
  if (!target) return;
  const kernels::Queue& queue = a.queue();
  kernels::View out = target->view;
  out.shape = shape3;
  const std::int64_t batch = std::max(a.size(0), b.size(0));
  if (shape3[0] == batch) {
    call(kernels::matmul, queue,
         {.a = a.view(),
          .b = b.view(),
          .y = out,
          .transpose_a = ta,
          .transpose_b = tb,
          .write = target->write});
    return;
  }
  Tensor each = empty({batch, shape3[1], shape3[2]}, a.dtype(), a.device());
  call(kernels::matmul, queue,
       {.a = a.view(), .b = b.view(), .y = each.out(), .transpose_a = ta, .transpose_b = tb});
  call(kernels::reduce, queue,
       {.op = kernels::ReduceOp::sum, .x = each.view(), .y = out, .write = target->write});
}

}  // namespace

// y = a b; da = dy b^T; db = a^T dy. Saves a and b.
Tensor matmul(const Tensor& a, const Tensor& b) {
  constexpr const char* kOp = "matmul";
  ops::require_floating(a, kOp);
  ops::require_dtype(b, a.dtype(), kOp, "the second factor");
  ops::require_same_device(a, b, kOp, "the second factor");
  ops::require((a.rank() == 2 || a.rank() == 3) && (b.rank() == 2 || b.rank() == 3), kOp,
               "needs 2 or 3 axes, got " + to_string(a.shape()) + " and " + to_string(b.shape()));
  const Tensor a3 = batched(a);
  const Tensor b3 = batched(b);
  ops::require(a3.size(2) == b3.size(1) && (a3.size(0) == b3.size(0) || a3.size(0) == 1 || b3.size(0) == 1),
               kOp, "shapes " + to_string(a.shape()) + " and " + to_string(b.shape()) + " do not fit");
  const std::int64_t batch = a3.size(0) == 1 ? b3.size(0) : a3.size(0);
  Tensor y3 = empty({batch, a3.size(1), b3.size(2)}, a.dtype(), a.device());
  call(kernels::matmul, a.queue(), {.a = a3.view(), .b = b3.view(), .y = y3.out()});
  const bool flat = a.rank() == 2 && b.rank() == 2;
  Tensor y = flat ? y3.alias({a3.size(1), b3.size(2)}) : y3;
  return record(kOp, y, {a, b}, [a = Saved(a3), b = Saved(b3), shape = y3.shape()](Grads& g) {
    const Tensor dy = g.output_tensor().alias(shape);
    land(g, 0, dy, false, b.tensor(), true, a.tensor().shape());
    land(g, 1, a.tensor(), true, dy, false, b.tensor().shape());
  });
}

}  // namespace cairn
