#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// y = activation(x w^T + bias). x [N,C] and y [N,K] in the compute dtype; w [K,C] and bias [K] fp32 (fp64
/// where x is fp64). bias optional.
struct LinearForward {
  ConstView x;
  ConstView w;
  ConstView bias;
  View y;
  Activation activation = Activation::none;
  const void* packed = nullptr;  // what LinearPack made of w for these shapes; optional, changes no bit
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
  double flops() const { return 2.0 * static_cast<double>(x.numel() * w.shape[0]); }
};
/// Optional, as Conv2dPack: w in the dtype and layout that the forward pass wants for the shapes of
/// `forward`.
struct LinearPack {
  LinearForward forward;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return forward.dtype(); }
};
/// dx = dy w
struct LinearBackwardData {
  ConstView dy;
  ConstView w;
  View dx;
  Write write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return dy.dtype; }
  double flops() const { return 2.0 * static_cast<double>(dy.numel() * w.shape[1]); }
};
/// dw = dy^T x; dbias = column sums of dy, if wanted. Both fp32 (fp64 where x is fp64).
struct LinearBackwardWeight {
  ConstView x;
  ConstView dy;
  View dw;
  View dbias;
  Write write = Write::assign;
  Write dbias_write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
  double flops() const { return 2.0 * static_cast<double>(x.numel() * dw.shape[0]); }
};

/// y = op(a) op(b), batched over the first axis: a [B,M,K] (or [B,K,M] transposed), b [B,K,N] (or [B,N,K]), y
/// [B,M,N]. B of a or b may be 1 (shared). One dtype for all.
struct Matmul {
  ConstView a;
  ConstView b;
  View y;
  bool transpose_a = false;
  bool transpose_b = false;
  Write write = Write::assign;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return y.dtype; }
  double flops() const { return 2.0 * static_cast<double>(y.numel() * a.shape[transpose_a ? 1 : 2]); }
};

inline constinit KernelSlot<LinearForward> linear_forward("linear_forward");
inline constinit KernelSlot<LinearPack> linear_pack("linear_pack");
inline constinit KernelSlot<LinearBackwardData> linear_backward_data("linear_backward_data");
inline constinit KernelSlot<LinearBackwardWeight> linear_backward_weight("linear_backward_weight");
inline constinit KernelSlot<Matmul> matmul("matmul");

}  // namespace cairn::kernels
