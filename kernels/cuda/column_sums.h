#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y[k] = sum over all rows of x[..., k], in fp32, in an order that the shape alone decides: the gradient of
/// a bias. x fp32, bf16 or fp16 with K as its last axis; y [K] fp32, which reduce (whose result has x's
/// dtype) does not give. On CUDA devices alone.
struct ColumnSums {
  ConstView x;
  View y;
  Write write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<ColumnSums> column_sums("column_sums");

}  // namespace cairn::kernels
