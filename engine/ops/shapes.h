#pragma once
#include "engine/ops.h"

/// Shape rules that more than one op goes by; ShapeError and DTypeError name `op`.
namespace cairn::ops {

/// [N,P,Q,K] of conv2d(), whose x, w and bias (may be undefined) are checked.
Shape conv2d_shape(const char* op, const Tensor& x, const Tensor& w, const Tensor& bias,
                   const Conv2dGeometry& geometry);
/// [N,P,Q,C] of a pooling over x [N,H,W,C].
Shape pool2d_shape(const char* op, const Shape& x, const Pool2dGeometry& geometry);

}  // namespace cairn::ops
