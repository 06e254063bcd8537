#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/axes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/view.h"

namespace cairn::kernels {

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
