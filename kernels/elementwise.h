#pragma once
/// Elementwise ops from a functor: the smallest kind of op outside the engine. One file, compiled by g++ for
/// the CPU and, with CAIRN_DEVICE_PASS, by nvcc or for the emulated device:
///
/// @code
///   struct Swish {
///     static constexpr const char* kName = "swish";
///     template <class C> CAIRN_HOST_DEVICE C forward(C x) const { ... }          // y
///     template <class C> CAIRN_HOST_DEVICE C backward(C x, C dy) const { ... }   // dx
///   };
///   CAIRN_ELEMENTWISE(Swish);
/// @endcode
///
/// C is float for fp32, bf16 and fp16 tensors, double for fp64 ones. The functor may have members (a slope):
/// it is copied into the kernel's arguments. It must not stand in an anonymous namespace, where each library
/// would have slots of its own.
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>

#include "kernels/dispatch.h"

#if defined(__CUDACC__)
#define CAIRN_HOST_DEVICE __host__ __device__
#else
#define CAIRN_HOST_DEVICE
#endif

namespace cairn::kernels {

/// y = f.forward(x), element by element. Any shape; y may be x's memory.
template <class F>
struct ElementwiseForward {
  F f;
  ConstView x;
  View y;
  DType dtype() const { return x.dtype; }
};
/// dx = f.backward(x, dy). dx may be dy's memory.
template <class F>
struct ElementwiseBackward {
  F f;
  ConstView x;
  ConstView dy;
  View dx;
  Write write = Write::assign;
  DType dtype() const { return x.dtype; }
};

template <class F>
inline constexpr auto kBackwardName = [] {
  constexpr std::string_view name = F::kName, ending = "_backward";
  std::array<char, name.size() + ending.size() + 1> text{};
  for (std::size_t i = 0; i < name.size(); ++i) text[i] = name[i];
  for (std::size_t i = 0; i < ending.size(); ++i) text[name.size() + i] = ending[i];
  return text;
}();

template <class F>
inline constinit KernelSlot<ElementwiseForward<F>> elementwise_forward(F::kName);
template <class F>
inline constinit KernelSlot<ElementwiseBackward<F>> elementwise_backward(kBackwardName<F>.data());

}  // namespace cairn::kernels

/// Fills the functor's slots with this pass' kernels when the library is loaded. The two fillers have names
/// of their own, since both passes may end in one library.
#if defined(CAIRN_DEVICE_PASS)
#include "kernels/cuda/elementwise.h"
#define CAIRN_ELEMENTWISE(F) static const ::cairn::kernels::FillElementwiseCuda<F> cairn_fill_##F
#else
#include "kernels/cpu/elementwise.h"
#define CAIRN_ELEMENTWISE(F) static const ::cairn::kernels::FillElementwiseCpu<F> cairn_fill_##F
#endif
