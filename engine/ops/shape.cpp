#include <algorithm>
#include <array>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

Shape strides_of(const Shape& s) {
  Shape st;
  st.rank = s.rank;
  std::int64_t n = 1;
  for (int i = s.rank - 1; i >= 0; --i) {
    st[i] = n;
    n *= s[i];
  }
  return st;
}

}  // namespace

// The same elements under another shape: shares x's memory both ways.
Tensor reshape(const Tensor& x, const Shape& shape) {
  ops::require(x.numel() == shape.numel(), "reshape",
               to_string(x.shape()) + " cannot become " + to_string(shape));
  return record("reshape", x.alias(shape), {x}, [](Grads& g) { g.give(0, g.output_tensor()); });
}

// y[i_0, i_1, ...] = x with axis order[k] of x as axis k of y; the gradient goes the way back.
Tensor permute(const Tensor& x, std::vector<int> order) {
  constexpr const char* kOp = "permute";
  std::array<bool, kMaxRank> used{};
  ops::require(static_cast<int>(order.size()) == x.rank(), kOp,
               std::to_string(order.size()) + " axes named for " + to_string(x.shape()));
  for (int a : order) {
    ops::require(a >= 0 && a < x.rank() && !used[static_cast<std::size_t>(a)], kOp,
                 "each axis must be named once");
    used[static_cast<std::size_t>(a)] = true;
  }
  const Shape x_strides = strides_of(x.shape());
  Shape shape = x.shape();
  Shape from = x_strides;
  for (int i = 0; i < x.rank(); ++i) {
    shape[i] = x.size(order[static_cast<std::size_t>(i)]);
    from[i] = x_strides[order[static_cast<std::size_t>(i)]];
  }
  const Shape to = strides_of(shape);
  Tensor y = empty(shape, x.dtype(), x.device());
  call(kernels::strided_copy, x.queue(),
       {.x = x.view(), .y = y.out(), .shape = shape, .stride_x = from, .stride_y = to});
  return record(kOp, y, {x}, [shape, from, to](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::strided_copy, g.output_tensor().queue(),
           {.x = g.output(),
            .y = dx->view,
            .shape = shape,
            .stride_x = to,
            .stride_y = from,
            .write = dx->write});
  });
}

// y = x[..., begin:end, ...]; dx is dy in that range and 0 outside it.
Tensor slice(const Tensor& x, int axis, std::int64_t begin, std::int64_t end) {
  constexpr const char* kOp = "slice";
  ops::require(axis >= 0 && axis < x.rank(), kOp,
               "axis " + std::to_string(axis) + " of " + to_string(x.shape()));
  ops::require(0 <= begin && begin <= end && end <= x.size(axis), kOp,
               "range " + std::to_string(begin) + ':' + std::to_string(end) + " of " + to_string(x.shape()));
  Shape shape = x.shape();
  shape[axis] = end - begin;
  const Shape from = strides_of(x.shape());
  const Shape to = strides_of(shape);
  const std::int64_t offset = begin * from[axis];
  Tensor y = empty(shape, x.dtype(), x.device());
  call(kernels::strided_copy, x.queue(),
       {.x = x.view(), .y = y.out(), .shape = shape, .stride_x = from, .stride_y = to, .offset_x = offset});
  return record(kOp, y, {x}, [shape, from, to, offset](Grads& g) {
    if (auto dx = g.wants(0)) {
      const kernels::Queue& queue = g.output_tensor().queue();
      if (dx->write == kernels::Write::assign) call(kernels::fill_value, queue, {dx->view, 0.0});
      call(kernels::strided_copy, queue,
           {.x = g.output(),
            .y = dx->view,
            .shape = shape,
            .stride_x = to,
            .stride_y = from,
            .offset_y = offset,
            .write = dx->write});
    }
  });
}

// The parts one after another along an axis; each part's gradient is its range of dy.
Tensor concat(std::span<const Tensor> parts, int axis) {
  constexpr const char* kOp = "concat";
  ops::require(!parts.empty(), kOp, "nothing to join");
  const Tensor& first = parts[0];
  ops::require(axis >= 0 && axis < first.rank(), kOp,
               "axis " + std::to_string(axis) + " of " + to_string(first.shape()));
  Shape shape = first.shape();
  shape[axis] = 0;
  for (const Tensor& t : parts) {
    ops::require_dtype(t, first.dtype(), kOp, "a part");
    ops::require_same_device(first, t, kOp, "a part");
    ops::require(t.rank() == first.rank(), kOp, to_string(t.shape()) + " beside " + to_string(first.shape()));
    for (int i = 0; i < first.rank(); ++i)
      ops::require(i == axis || t.size(i) == first.size(i), kOp,
                   to_string(t.shape()) + " beside " + to_string(first.shape()));
    shape[axis] += t.size(axis);
  }
  Tensor y = empty(shape, first.dtype(), first.device());
  const Shape strides = strides_of(shape);
  std::int64_t begin = 0;
  std::vector<std::int64_t> offsets;
  for (const Tensor& t : parts) {
    offsets.push_back(begin * strides[axis]);
    call(kernels::strided_copy, y.queue(),
         {.x = t.view(),
          .y = y.out(),
          .shape = t.shape(),
          .stride_x = strides_of(t.shape()),
          .stride_y = strides,
          .offset_y = offsets.back()});
    begin += t.size(axis);
  }
  return record(kOp, y, parts, [strides, offsets](Grads& g) {
    for (std::size_t i = 0; i < offsets.size(); ++i)
      if (auto dx = g.wants(i))
        call(kernels::strided_copy, g.output_tensor().queue(),
             {.x = g.output(),
              .y = dx->view,
              .shape = dx->view.shape,
              .stride_x = strides,
              .stride_y = strides_of(dx->view.shape),
              .offset_x = offsets[i],
              .write = dx->write});
  });
}

// [N,H,W,C] -> [N, C*H*W], channels outermost as in PyTorch's NCHW.
Tensor flatten(const Tensor& x) {
  ops::require_rank(x, 4, "flatten", "input");
  const Shape flat{x.size(0), x.size(1) * x.size(2) * x.size(3)};
  if (x.size(1) * x.size(2) == 1) return reshape(x, flat);
  return reshape(permute(x, {0, 3, 1, 2}), flat);
}

}  // namespace cairn
