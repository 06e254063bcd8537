#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y = max(x, 0). A NaN stays NaN. Any shape; fp32, bf16, fp16.
struct ReluForward {
  ConstView x;
  View y;
  DType dtype() const { return x.dtype; }
};
/// dx = dy where y > 0, else 0 (gradient at 0 is 0, as in PyTorch). dx may be dy's memory.
struct ReluBackward {
  ConstView y;
  ConstView dy;
  View dx;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

enum class UnaryOp : std::uint8_t { exp, log, sqrt, sigmoid, tanh };
/// y = op(x), element by element.
struct UnaryForward {
  UnaryOp op;
  ConstView x;
  View y;
  DType dtype() const { return x.dtype; }
};
/// dx = dy * op'(x); from y where that is enough: exp' = y, sqrt' = 1/(2y), sigmoid' = y(1-y), tanh' = 1-y*y,
/// log' = 1/x. Both x and y are given.
struct UnaryBackward {
  UnaryOp op;
  ConstView x;
  ConstView y;
  ConstView dy;
  View dx;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

enum class BinaryOp : std::uint8_t { add, sub, mul, div };
/// y = scale * op(a, b) with broadcasting: a and b have y's rank; an axis of length 1 is repeated.
/// One dtype for all. y may be the memory of a or b where that has y's shape.
struct BinaryForward {
  BinaryOp op;
  ConstView a;
  ConstView b;
  View y;
  double scale = 1.0;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

/// y = scale * x + shift, element by element. y may be x's memory.
struct Affine {
  ConstView x;
  View y;
  float scale = 1.0f;
  float shift = 0.0f;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

/// y = x converted to y's dtype, rounding to nearest even; equal dtypes copy. Between fp32, fp64, bf16, fp16;
/// the slot is picked by y's dtype and serves every x dtype that the device has.
struct Cast {
  ConstView x;
  View y;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

/// y[...] = value. Any dtype of the device, integers too.
struct FillValue {
  View y;
  double value = 0;
  DType dtype() const { return y.dtype; }
};

/// Copies a box element by element: for every index i in shape, y[offset_y + i * stride_y] = x[offset_x + i *
/// stride_x] (strides and offsets in elements; rank is shape.rank). Serves permute, slice, concat and their
/// gradients. No two i may name the same element of y.
struct StridedCopy {
  ConstView x;
  View y;
  Shape shape;
  Shape stride_x;
  Shape stride_y;
  std::int64_t offset_x = 0;
  std::int64_t offset_y = 0;
  Write write = Write::assign;
  DType dtype() const { return y.dtype; }
};

inline constinit KernelSlot<ReluForward> relu_forward("relu_forward");
inline constinit KernelSlot<ReluBackward> relu_backward("relu_backward");
inline constinit KernelSlot<UnaryForward> unary_forward("unary_forward");
inline constinit KernelSlot<UnaryBackward> unary_backward("unary_backward");
inline constinit KernelSlot<BinaryForward> binary_forward("binary_forward");
inline constinit KernelSlot<Affine> affine("affine");
inline constinit KernelSlot<Cast> cast("cast");
inline constinit KernelSlot<FillValue> fill_value("fill_value");
inline constinit KernelSlot<StridedCopy> strided_copy("strided_copy");

}  // namespace cairn::kernels
