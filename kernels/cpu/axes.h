#pragma once
#include <array>
#include <cstdint>
#include <utility>

#include "kernels/cpu/parallel.h"
#include "kernels/view.h"

namespace cairn::kernels {

/// y's axes for an elementwise op of a and b with broadcasting, merged wherever neither operand can tell:
/// same shapes become one axis, [N,H,W,C] with [C] two, with [N,1,1,C] three. count >= 1.
struct BroadcastAxes {
  int count = 0;
  std::array<std::int64_t, kMaxRank> length{};
  std::array<std::int64_t, kMaxRank> step_a{}, step_b{};  // in elements; 0 where the operand is repeated

  /// Offsets of a and b for row `row` of y, a row being the innermost axis.
  std::pair<std::int64_t, std::int64_t> row_offsets(std::int64_t row) const {
    std::int64_t a = 0, b = 0;
    for (int i = count - 2; i >= 0; --i) {
      const auto k = static_cast<std::size_t>(i);
      const std::int64_t index = row % length[k];
      row /= length[k];
      a += index * step_a[k];
      b += index * step_b[k];
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
      const auto last = static_cast<std::size_t>(inner_first.count - 1);
      const std::int64_t n = inner_first.length[last];
      if (step_a == inner_first.step_a[last] * n && step_b == inner_first.step_b[last] * n) {
        inner_first.length[last] *= y[i];
        continue;
      }
    }
    const auto next = static_cast<std::size_t>(inner_first.count++);
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
    const auto to = static_cast<std::size_t>(i), from = static_cast<std::size_t>(axes.count - 1 - i);
    axes.length[to] = inner_first.length[from];
    axes.step_a[to] = inner_first.step_a[from];
    axes.step_b[to] = inner_first.step_b[from];
  }
  return axes;
}

/// A reduction's axes as x[k][a][b][c][d] with a and c reduced, k, b and d kept (lengths of 1 where there is
/// no such axis): y[k][b][d]. Neighbours of one kind are merged.
struct ReduceAxes {
  std::int64_t k = 1, a = 1, b = 1, c = 1, d = 1;
  std::int64_t outputs() const { return k * b * d; }
  std::int64_t reduced() const { return a * c; }
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

/// How a reduction is cut into tasks: one for each (k, b), each block of kReduceColumns kept columns, and,
/// where those are too few for the threads, each of `splits` pieces of the reduced range, whose partial
/// results meet in scratch ([splits][k][b][d] in the compute type). Depends on the shapes and the number of
/// threads alone.
struct ReducePlan {
  ReduceAxes axes;
  std::int64_t column_blocks = 1;
  std::int64_t splits = 1;
  std::int64_t tasks() const { return axes.k * axes.b * column_blocks * splits; }
};
inline constexpr std::int64_t kReduceColumns = 512;         // accumulators of a task: 2 KiB of fp32
inline constexpr std::int64_t kReduceTaskElements = 16384;  // less is not worth a thread

inline ReducePlan reduce_plan(const Shape& x, const Shape& y) {
  ReducePlan p;
  p.axes = reduce_axes(x, y);
  p.column_blocks = (p.axes.d + kReduceColumns - 1) / kReduceColumns;
  const std::int64_t threads = num_threads();
  if (p.tasks() > 0 && p.tasks() < threads)
    p.splits = std::clamp<std::int64_t>(
        std::min(p.axes.reduced() * p.axes.outputs() / kReduceTaskElements, p.axes.reduced()), 1, threads);
  return p;
}

}  // namespace cairn::kernels
