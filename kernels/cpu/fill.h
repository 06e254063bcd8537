#pragma once
#include <initializer_list>
#include <type_traits>

#include "kernels/dispatch.h"

namespace cairn::kernels {

template <class T>
using TypeTag = std::type_identity<T>;

// A kernel file is compiled once for the product (fp32 and bf16) and once more with CAIRN_KERNELS_F64 for
// gradient checks in double. Both copies may live in one process: kernels stand in anonymous namespaces, and
// what differs here has a namespace of its own.
#if defined(CAIRN_KERNELS_F64)
inline namespace kernels_f64 {
inline constexpr std::initializer_list<DType> kComputeDTypes = {DType::f64};
inline constexpr std::initializer_list<DType> kParameterDTypes = {DType::f64};

/// Calls f(TypeTag<T>{}) with the element type that `t` names, one of kComputeDTypes.
template <class F>
decltype(auto) with_compute_type(DType, F&& f) {
  return f(TypeTag<double>{});
}
#else
inline namespace kernels_f32_bf16 {
inline constexpr std::initializer_list<DType> kComputeDTypes = {DType::f32, DType::bf16};
inline constexpr std::initializer_list<DType> kParameterDTypes = {DType::f32};

/// Calls f(TypeTag<T>{}) with the element type that `t` names, one of kComputeDTypes.
template <class F>
decltype(auto) with_compute_type(DType t, F&& f) {
  return t == DType::bf16 ? f(TypeTag<BFloat16>{}) : f(TypeTag<float>{});
}
#endif

/// Fills a slot on the CPU for every compute dtype of this build (or those named) with one function that
/// picks the type itself:
///   const FillCpu kFill{relu_forward, &relu_forward_cpu};
/// A captureless generic lambda will do for `run`.
struct FillCpu {
  template <class Args>
  FillCpu(KernelSlot<Args>& slot, typename KernelSlot<Args>::Run run,
          typename KernelSlot<Args>::Workspace workspace = nullptr,
          std::initializer_list<DType> dtypes = kComputeDTypes) {
    for (DType t : dtypes) slot.fill(DeviceType::cpu, t, run, workspace);
  }
};

}  // inline namespace of this build
}  // namespace cairn::kernels
