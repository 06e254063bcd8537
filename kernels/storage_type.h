#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/view.h"

namespace cairn::kernels {

/// f(std::type_identity<T>{}) with the type that holds elements of dtype t; Bf16 and Fp16 are the caller's
/// 16-bit types.
template <class Bf16, class Fp16, class F>
decltype(auto) with_storage_type(DType t, F&& f) {
  switch (t) {
    case DType::f32:
      return f(std::type_identity<float>{});
    case DType::f64:
      return f(std::type_identity<double>{});
    case DType::bf16:
      return f(std::type_identity<Bf16>{});
    case DType::f16:
      return f(std::type_identity<Fp16>{});
    case DType::u8:
      return f(std::type_identity<std::uint8_t>{});
    case DType::i32:
      return f(std::type_identity<std::int32_t>{});
    case DType::i64:
      break;
  }
  return f(std::type_identity<std::int64_t>{});
}

}  // namespace cairn::kernels
