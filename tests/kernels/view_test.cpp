#include "kernels/view.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace cairn {
namespace {

TEST(Shape, CountsComparesAndPrints) {
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ((Shape{8, 56, 56, 64}).numel(), 8 * 56 * 56 * 64);
  EXPECT_EQ((Shape{4, 0, 3}).numel(), 0);
  EXPECT_TRUE((Shape{2, 3}) == (Shape{2, 3}));
  EXPECT_FALSE((Shape{2, 3}) == (Shape{3, 2}));
  EXPECT_FALSE((Shape{2, 3}) == (Shape{2, 3, 1}));
  EXPECT_EQ(to_string(Shape{8, 56, 56, 64}), "[8,56,56,64]");
  EXPECT_EQ(to_string(Shape()), "[]");
}

TEST(DType, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f32), sizeof(float));
  EXPECT_EQ(size_of(DType::f64), sizeof(double));
  EXPECT_EQ(size_of(DType::bf16), sizeof(BFloat16));
  EXPECT_EQ(size_of(DType::f16), sizeof(Float16));
  EXPECT_EQ(size_of(DType::u8), 1u);
  EXPECT_EQ(size_of(DType::i32), 4u);
  EXPECT_EQ(size_of(DType::i64), 8u);
  EXPECT_STREQ(name_of(DType::bf16), "bf16");
  EXPECT_STREQ(name_of(DType::f16), "fp16");
}

// The value of 16-bit patterns from their fields, and rounding by search among neighbours: nothing is shared
// with the conversions' bit tricks.
double value_of(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> 15 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const auto mantissa = static_cast<double>(bits & ((1u << mantissa_bits) - 1));
  if (exponent == (1 << exponent_bits) - 1)
    return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(1 + std::ldexp(mantissa, -mantissa_bits), exponent - bias);
}

template <class T>
void check_all(int exponent_bits, int mantissa_bits) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    T v;
    v.bits = static_cast<std::uint16_t>(bits);
    const double want = value_of(bits, exponent_bits, mantissa_bits);
    const auto got = static_cast<float>(v);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(T(got)))) << bits;
      continue;
    }
    ASSERT_EQ(static_cast<double>(got), want) << bits;
    ASSERT_EQ(std::signbit(got), std::signbit(want)) << bits;
    ASSERT_EQ(T(got).bits, bits);
    // The midpoint to the next larger magnitude goes to the even pattern; beside it, to the nearer one.
    // Beyond the largest finite value the "next" is infinity, half a unit further on.
    const double next = value_of(bits + 1, exponent_bits, mantissa_bits);
    if ((bits & 0x7FFFu) == 0x7FFFu || std::isnan(next) || std::isinf(want)) continue;
    const double step =
        std::isinf(next) ? want - value_of(bits - 1, exponent_bits, mantissa_bits) : next - want;
    const auto middle = static_cast<float>(want + step / 2);
    if (static_cast<double>(middle) != want + step / 2) continue;  // bf16 subnormals: not a float
    ASSERT_EQ(T(middle).bits, bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(T(std::nextafter(middle, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(T(std::nextafter(middle, middle * 2)).bits, bits + 1) << bits;
  }
}
TEST(BFloat16, EveryPatternAndEveryTie) { check_all<BFloat16>(8, 7); }
TEST(Float16, EveryPatternAndEveryTie) { check_all<Float16>(5, 10); }

TEST(View, AbsentIsFalse) {
  EXPECT_FALSE(kernels::View());
  EXPECT_FALSE(kernels::ConstView());
  float value = 2;
  const kernels::View view{&value, DType::f32, {1}};
  EXPECT_TRUE(view);
  const kernels::ConstView same = view;
  EXPECT_EQ(same.as<float>()[0], 2);
  EXPECT_EQ(same.numel(), 1);
}

}  // namespace
}  // namespace cairn
