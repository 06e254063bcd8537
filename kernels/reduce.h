#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

enum class ReduceOp : std::uint8_t { sum, max };
/// y = scale * reduction of x over the axes in which y has length 1 and x has not; y has x's rank.
/// Accumulates in fp32 (fp64 for fp64) in an order that depends on the shapes and the number of threads only.
/// max: a NaN in the range wins. scale applies to sum only.
struct Reduce {
  ReduceOp op;
  ConstView x;
  View y;
  double scale = 1.0;
  Write write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

/// Gradient of max: dy is shared evenly among the elements equal to the maximum (as torch.amax does).
struct ReduceMaxBackward {
  ConstView x;
  ConstView y;   // the maxima, length 1 in reduced axes
  ConstView dy;  // as y
  View dx;       // as x
  Write write = Write::assign;
  DType dtype() const { return x.dtype; }
};

/// norm[0] = sqrt(sum x^2), accumulated in fp64; x any shape, norm [1] fp32.
struct L2Norm {
  ConstView x;
  View norm;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<Reduce> reduce("reduce");
inline constinit KernelSlot<ReduceMaxBackward> reduce_max_backward("reduce_max_backward");
inline constinit KernelSlot<L2Norm> l2_norm("l2_norm");

}  // namespace cairn::kernels
