#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace cairn {

/// Element types. f64 exists for gradient checks only; fp16 has kernels on CUDA devices only.
enum class DType : std::uint8_t { f32, f64, bf16, f16, u8, i32, i64 };
inline constexpr int kDTypeCount = 7;

constexpr std::size_t size_of(DType t) {
  constexpr std::size_t kSizes[kDTypeCount] = {4, 8, 2, 2, 1, 4, 8};
  return kSizes[static_cast<int>(t)];
}
/// "fp32", "fp64", "bf16", "fp16", "uint8", "int32", "int64", as options and messages spell them.
const char* name_of(DType t);

constexpr bool is_floating(DType t) {
  return t == DType::f32 || t == DType::f64 || t == DType::bf16 || t == DType::f16;
}

/// bfloat16 storage: the upper half of an IEEE binary32; conversion rounds to nearest even, NaN stays NaN.
struct BFloat16 {
  std::uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float f) {
    const auto u = std::bit_cast<std::uint32_t>(f);
    bits = (f != f) ? static_cast<std::uint16_t>((u >> 16) | 0x40u)
                    : static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE binary16 storage; conversion rounds to nearest even.
struct Float16 {
  std::uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float f);
  explicit operator float() const;
};

template <class T>
inline constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<Float16> = DType::f16;
template <>
inline constexpr DType dtype_of<std::uint8_t> = DType::u8;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;

/// Up to four axes, outermost first; rank 0 is a scalar. Images are [N,H,W,C], filters [K,R,S,C/groups].
inline constexpr int kMaxRank = 4;
struct Shape {
  std::array<std::int64_t, kMaxRank> dims{};
  int rank = 0;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<std::int64_t> list) {
    for (std::int64_t d : list) dims[static_cast<std::size_t>(rank++)] = d;
  }
  constexpr std::int64_t operator[](int axis) const { return dims[static_cast<std::size_t>(axis)]; }
  constexpr std::int64_t& operator[](int axis) { return dims[static_cast<std::size_t>(axis)]; }
  constexpr std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= (*this)[i];
    return n;
  }
  constexpr bool operator==(const Shape& o) const {
    if (rank != o.rank) return false;
    for (int i = 0; i < rank; ++i)
      if ((*this)[i] != o[i]) return false;
    return true;
  }
};
/// "[8,56,56,64]"
std::string to_string(const Shape& shape);

namespace kernels {

/// A tensor as a kernel sees it: contiguous, row-major (the last axis is dense), no ownership.
/// A default-constructed view means "absent" for optional arguments.
struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  std::int64_t numel() const { return shape.numel(); }
  template <class T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
};

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  operator ConstView() const { return {data, dtype, shape}; }
  std::int64_t numel() const { return shape.numel(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

/// How a kernel lands its result: a tensor's first gradient assigns, a further one adds.
enum class Write : std::uint8_t { assign, add };

/// An activation fused behind an op.
enum class Activation : std::uint8_t { none, relu };

}  // namespace kernels
}  // namespace cairn
