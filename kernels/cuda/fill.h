#pragma once
/// How a .cu file fills its slots.
#include <initializer_list>
#include <type_traits>

#include "kernels/cuda/launch.h"

namespace cairn::kernels {

template <class T>
using TypeTag = std::type_identity<T>;

inline cudaStream_t stream_of(const Queue& queue) { return static_cast<cudaStream_t>(queue.stream); }

// A .cu file is compiled once for the product (fp32, bf16, fp16) and, for the emulated device's tests, once
// more with CAIRN_KERNELS_F64 for gradient checks in double. Both copies may live in one process: kernels
// stand in anonymous namespaces, and what differs here has a namespace of its own.
#if defined(CAIRN_KERNELS_F64)
inline namespace kernels_f64 {
inline constexpr std::initializer_list<DType> kComputeDTypes = {DType::f64};
inline constexpr std::initializer_list<DType> kParameterDTypes = {DType::f64};
using Parameter = double;

/// Calls f(TypeTag<T>{}) with the element type that `t` names, one of kComputeDTypes.
template <class F>
decltype(auto) with_compute_type(DType, F&& f) {
  return f(TypeTag<double>{});
}
#else
inline namespace kernels_product {
inline constexpr std::initializer_list<DType> kComputeDTypes = {DType::f32, DType::bf16, DType::f16};
inline constexpr std::initializer_list<DType> kParameterDTypes = {DType::f32};
/// Parameters and statistics are fp32 whatever the compute dtype is (double in gradient checks).
using Parameter = float;

/// Calls f(TypeTag<T>{}) with the element type that `t` names, one of kComputeDTypes.
template <class F>
decltype(auto) with_compute_type(DType t, F&& f) {
  if (t == DType::bf16) return f(TypeTag<__nv_bfloat16>{});
  if (t == DType::f16) return f(TypeTag<__half>{});
  return f(TypeTag<float>{});
}
#endif

/// Fills a slot on the CUDA device for every compute dtype of this build (or those named) with one function
/// that picks the type itself:
///   const FillCuda kFill{relu_forward, &relu_forward_cuda};
struct FillCuda {
  template <class Args>
  FillCuda(KernelSlot<Args>& slot, typename KernelSlot<Args>::Run run,
           typename KernelSlot<Args>::Workspace workspace = nullptr,
           std::initializer_list<DType> dtypes = kComputeDTypes) {
    for (DType t : dtypes) slot.fill(kCudaDevice, t, run, workspace);
  }
};

}  // inline namespace of this build
}  // namespace cairn::kernels
