#pragma once
/// Shapes and strides as the fewest axes that tell them apart, for every backend alike.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "kernels/philox.h"  // CAIRN_HOST_DEVICE
#include "kernels/pointwise.h"
#include "kernels/view.h"

namespace cairn::kernels {

/// y's axes for an elementwise op of a and b with broadcasting, merged wherever neither operand can tell:
/// same shapes become one axis, [N,H,W,C] with [C] two, with [N,1,1,C] three. count >= 1.
struct BroadcastAxes {
  int count = 0;
  std::int64_t length[kMaxRank] = {};
  std::int64_t step_a[kMaxRank] = {}, step_b[kMaxRank] = {};  // in elements; 0 where the operand is repeated

  /// Offsets of a and b for row `row` of y, a row being the innermost axis.
  std::pair<std::int64_t, std::int64_t> row_offsets(std::int64_t row) const {
    std::int64_t a = 0, b = 0;
    for (int i = count - 2; i >= 0; --i) {
      const std::int64_t index = row % length[i];
      row /= length[i];
      a += index * step_a[i];
      b += index * step_b[i];
    }
    return {a, b};
  }
};

inline BroadcastAxes broadcast_axes(const Shape& a, const Shape& b, const Shape& y) {
  // From the innermost axis outwards, then turned round.
  BroadcastAxes inner_first;
  std::int64_t size_a = 1, size_b = 1;
  for (int i = y.rank - 1; i >= 0; --i) {
    if (y[i] == 1) continue;
    const std::int64_t step_a = a[i] == 1 ? 0 : size_a, step_b = b[i] == 1 ? 0 : size_b;
    size_a *= a[i];
    size_b *= b[i];
    if (inner_first.count > 0) {
      const int last = inner_first.count - 1;
      const std::int64_t n = inner_first.length[last];
      if (step_a == inner_first.step_a[last] * n && step_b == inner_first.step_b[last] * n) {
        inner_first.length[last] *= y[i];
        continue;
      }
    }
    const int next = inner_first.count++;
    inner_first.length[next] = y[i];
    inner_first.step_a[next] = step_a;
    inner_first.step_b[next] = step_b;
  }
  if (inner_first.count == 0) {  // one element
    inner_first.count = 1;
    inner_first.length[0] = 1;
  }
  BroadcastAxes axes;
  axes.count = inner_first.count;
  for (int i = 0; i < axes.count; ++i) {
    const int from = axes.count - 1 - i;
    axes.length[i] = inner_first.length[from];
    axes.step_a[i] = inner_first.step_a[from];
    axes.step_b[i] = inner_first.step_b[from];
  }
  return axes;
}

/// A reduction's axes as x[k][a][b][c][d] with a and c reduced, k, b and d kept (lengths of 1 where there is
/// no such axis): y[k][b][d]. Neighbours of one kind are merged.
struct ReduceAxes {
  std::int64_t k = 1, a = 1, b = 1, c = 1, d = 1;
  CAIRN_HOST_DEVICE std::int64_t outputs() const { return k * b * d; }
  CAIRN_HOST_DEVICE std::int64_t reduced() const { return a * c; }
};

inline ReduceAxes reduce_axes(const Shape& x, const Shape& y) {
  ReduceAxes axes;
  std::int64_t* const kinds[5] = {&axes.d, &axes.c, &axes.b, &axes.a, &axes.k};  // from the innermost
  int at = 0;                                                                    // even: kept, odd: reduced
  for (int i = x.rank - 1; i >= 0; --i) {
    if (x[i] == 1) continue;
    const bool is_reduced = y[i] == 1;
    if (is_reduced != (at % 2 == 1)) ++at;
    *kinds[at] *= x[i];
  }
  return axes;
}

/// One axis of a StridedCopy: steps in elements.
struct CopyAxis {
  std::int64_t length, step_x, step_y;
};
/// The box's axes, outermost first, ordered by y's stride and merged where both sides run on. count >= 1.
struct CopyAxes {
  int count = 0;
  CopyAxis axis[kMaxRank];
};

inline CopyAxes copy_axes(const StridedCopy& args) {
  CopyAxes all;
  for (int i = 0; i < args.shape.rank; ++i)
    if (args.shape[i] != 1) all.axis[all.count++] = {args.shape[i], args.stride_x[i], args.stride_y[i]};
  std::stable_sort(all.axis, all.axis + all.count, [](const CopyAxis& l, const CopyAxis& r) {
    return std::abs(l.step_y) > std::abs(r.step_y);
  });
  CopyAxes merged;
  for (int i = 0; i < all.count; ++i) {
    const CopyAxis& inner = all.axis[i];
    if (merged.count > 0) {
      CopyAxis& outer = merged.axis[merged.count - 1];
      if (outer.step_x == inner.step_x * inner.length && outer.step_y == inner.step_y * inner.length) {
        outer = {outer.length * inner.length, inner.step_x, inner.step_y};
        continue;
      }
    }
    merged.axis[merged.count++] = inner;
  }
  if (merged.count == 0) merged.axis[merged.count++] = {1, 1, 1};
  return merged;
}

}  // namespace cairn::kernels
