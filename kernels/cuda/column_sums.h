#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y[k] = sum over all rows of x[..., k], in fp32 (fp64 where x is fp64), in an order that the shape alone
/// decides: the gradient of a bias. K is x's last axis; y [K] fp32 (fp64), which reduce (whose result has x's
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
