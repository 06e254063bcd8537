#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

struct Pool2dGeometry {
  int kernel_h = 2, kernel_w = 2;
  int stride_h = 2, stride_w = 2;
  int padding_h = 0, padding_w = 0;
  bool operator==(const Pool2dGeometry&) const = default;
};

/// Nobody won a window: no gradient goes back from it.
inline constexpr int kNoWinner = 255;

/// y[n,p,q,c] = activation(max over the window); padding never wins; the first maximum in row order wins a
/// tie; a NaN wins (as in PyTorch). x [N,H,W,C], y [N,P,Q,C]. index [N,P,Q,C] uint8, optional: r * kernel_w +
/// s of the winner (kernel_h * kernel_w <= 256). With ReLU (then < 256) kNoWinner where y is not above 0, so
/// that the backward pass needs no y for the mask.
struct MaxPool2dForward {
  ConstView x;
  View y;
  View index;
  Pool2dGeometry geometry;
  Activation activation = Activation::none;
  DType dtype() const { return x.dtype; }
};
/// dx = sum of dy over the windows whose winner x is.
struct MaxPool2dBackward {
  ConstView dy;
  ConstView index;
  View dx;
  Pool2dGeometry geometry;
  Write write = Write::assign;
  DType dtype() const { return dy.dtype; }
};

/// Mean over the window. count_include_pad: divide by the window's full size (PyTorch's default), else by the
/// elements inside the image.
struct AvgPool2dForward {
  ConstView x;
  View y;
  Pool2dGeometry geometry;
  bool count_include_pad = true;
  DType dtype() const { return x.dtype; }
};
struct AvgPool2dBackward {
  ConstView dy;
  View dx;
  Pool2dGeometry geometry;
  bool count_include_pad = true;
  Write write = Write::assign;
  DType dtype() const { return dy.dtype; }
};

/// y [N,C] = mean of x [N,H,W,C] over H and W, accumulated in fp32.
struct GlobalAvgPoolForward {
  ConstView x;
  View y;
  DType dtype() const { return x.dtype; }
};
struct GlobalAvgPoolBackward {
  ConstView dy;
  View dx;
  Write write = Write::assign;
  DType dtype() const { return dy.dtype; }
};

inline constinit KernelSlot<MaxPool2dForward> max_pool2d_forward("max_pool2d_forward");
inline constinit KernelSlot<MaxPool2dBackward> max_pool2d_backward("max_pool2d_backward");
inline constinit KernelSlot<AvgPool2dForward> avg_pool2d_forward("avg_pool2d_forward");
inline constinit KernelSlot<AvgPool2dBackward> avg_pool2d_backward("avg_pool2d_backward");
inline constinit KernelSlot<GlobalAvgPoolForward> global_avg_pool_forward("global_avg_pool_forward");
inline constinit KernelSlot<GlobalAvgPoolBackward> global_avg_pool_backward("global_avg_pool_backward");

}  // namespace cairn::kernels
