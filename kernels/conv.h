#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Cross-correlation geometry, as PyTorch's conv2d: P = (H + 2*padding_h - dilation_h*(R-1) - 1) / stride_h
/// + 1.
struct Conv2dGeometry {
  int stride_h = 1, stride_w = 1;
  int padding_h = 0, padding_w = 0;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  bool operator==(const Conv2dGeometry&) const = default;
};

/// Multiplications and additions of one pass of a direct convolution: y [N,P,Q,K], w [K,R,S,C/groups].
inline double conv2d_flops(const Shape& y, const Shape& w) {
  return 2.0 * static_cast<double>(y.numel()) * static_cast<double>(w[1] * w[2] * w[3]);
}

/// y = activation(conv(x, w) + bias + residual).
/// x [N,H,W,C], y and residual [N,P,Q,K] in the compute dtype; w [K,R,S,C/groups] and bias [K] in fp32 (fp64
/// where x is fp64): a backend with narrower arithmetic rounds w to the compute dtype itself. bias, residual
/// optional.
struct Conv2dForward {
  ConstView x;
  ConstView w;
  ConstView bias;
  ConstView residual;
  View y;
  Conv2dGeometry geometry;
  Activation activation = Activation::none;
  const void* packed = nullptr;  // what Conv2dPack made of w for these shapes; optional, changes no bit
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
  double flops() const { return conv2d_flops(y.shape, w.shape); }
};

/// Optional, for a w that serves often: puts it into the layout that the backend's forward pass wants for the
/// shapes, geometry and fused parts of `forward`, whose x and y are not touched. workspace() answers how long
/// the packed form is, 0 where w as it is serves best; it lands in `scratch`, and may move with it.
struct Conv2dPack {
  Conv2dForward forward;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return forward.dtype(); }
};

/// dgrad: dx = conv_transpose(dy, w).
struct Conv2dBackwardData {
  ConstView dy;
  ConstView w;
  View dx;
  Conv2dGeometry geometry;
  Write write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return dy.dtype; }
  double flops() const { return conv2d_flops(dy.shape, w.shape); }
};

/// wgrad: dw [K,R,S,C/groups] and, if wanted, dbias [K], both in w's dtype (fp32; fp64 where x is fp64).
struct Conv2dBackwardWeight {
  ConstView x;
  ConstView dy;
  View dw;
  View dbias;
  Conv2dGeometry geometry;
  Write write = Write::assign;
  Write dbias_write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
  double flops() const { return conv2d_flops(dy.shape, dw.shape); }
};

inline constinit KernelSlot<Conv2dForward> conv2d_forward("conv2d_forward");
inline constinit KernelSlot<Conv2dPack> conv2d_pack("conv2d_pack");
inline constinit KernelSlot<Conv2dBackwardData> conv2d_backward_data("conv2d_backward_data");
inline constinit KernelSlot<Conv2dBackwardWeight> conv2d_backward_weight("conv2d_backward_weight");

}  // namespace cairn::kernels
