#pragma once
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "hwy/targets.h"
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// A tensor's memory for kernel tests: values go in and come out as doubles; bytes before and after it hold a
/// sentinel that the destructor checks. Starts as NaN (integers: -1), so that what nobody wrote shows.
class Buffer {
 public:
  Buffer(DType dtype, const Shape& shape)
      : dtype_(dtype), shape_(shape), memory_(2 * kGuard + bytes(), kSentinel) {
    if (is_floating(dtype))
      for (std::int64_t i = 0; i < numel(); ++i) set(i, std::nan(""));
    else
      std::memset(data(), 0xFF, bytes());
  }
  Buffer(DType dtype, const Shape& shape, const std::vector<double>& values) : Buffer(dtype, shape) {
    EXPECT_EQ(static_cast<std::int64_t>(values.size()), numel());
    for (std::int64_t i = 0; i < numel(); ++i) set(i, values[static_cast<std::size_t>(i)]);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&&) = default;
  ~Buffer() { EXPECT_TRUE(memory_.empty() || guards_whole()) << "memory outside the tensor was written"; }

  std::int64_t numel() const { return shape_.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(shape_.numel()) * size_of(dtype_); }
  void* data() { return memory_.data() + kGuard; }
  const void* data() const { return memory_.data() + kGuard; }
  View view() { return {data(), dtype_, shape_}; }
  ConstView in() const { return {data(), dtype_, shape_}; }
  /// The same memory under another shape.
  ConstView as(const Shape& shape) const { return {data(), dtype_, shape}; }

  double at(std::int64_t i) const {
    switch (dtype_) {
      case DType::f32:
        return static_cast<double>(in().as<float>()[i]);
      case DType::f64:
        return in().as<double>()[i];
      case DType::bf16:
        return static_cast<double>(static_cast<float>(in().as<BFloat16>()[i]));
      case DType::f16:
        return static_cast<double>(static_cast<float>(in().as<Float16>()[i]));
      case DType::u8:
        return in().as<std::uint8_t>()[i];
      case DType::i32:
        return in().as<std::int32_t>()[i];
      case DType::i64:
        return static_cast<double>(in().as<std::int64_t>()[i]);
    }
    return 0;
  }
  void set(std::int64_t i, double v) {
    const View out = view();
    switch (dtype_) {
      case DType::f32:
        out.as<float>()[i] = static_cast<float>(v);
        break;
      case DType::f64:
        out.as<double>()[i] = v;
        break;
      case DType::bf16:
        out.as<BFloat16>()[i] = BFloat16(static_cast<float>(v));
        break;
      case DType::f16:
        out.as<Float16>()[i] = Float16(static_cast<float>(v));
        break;
      case DType::u8:
        out.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(v);
        break;
      case DType::i32:
        out.as<std::int32_t>()[i] = static_cast<std::int32_t>(v);
        break;
      case DType::i64:
        out.as<std::int64_t>()[i] = static_cast<std::int64_t>(v);
        break;
    }
  }
  std::vector<double> values() const {
    std::vector<double> v;
    for (std::int64_t i = 0; i < numel(); ++i) v.push_back(at(i));
    return v;
  }
  Buffer copy() const { return Buffer(dtype_, shape_, values()); }
  bool same_bits(const Buffer& o) const {
    return bytes() == o.bytes() && std::memcmp(data(), o.data(), bytes()) == 0;
  }

 private:
  static constexpr std::size_t kGuard = 256;
  static constexpr unsigned char kSentinel = 0xA5;
  bool guards_whole() const {
    for (std::size_t i = 0; i < kGuard; ++i)
      if (memory_[i] != kSentinel || memory_[memory_.size() - 1 - i] != kSentinel) return false;
    return true;
  }
  DType dtype_;
  Shape shape_;
  std::vector<unsigned char> memory_;
};

/// Half a unit in the last place, relative: the error of one rounding.
inline double rounding_of(DType t) {
  return t == DType::bf16 ? 0x1p-8 : t == DType::f16 ? 0x1p-11 : t == DType::f32 ? 0x1p-24 : 0x1p-53;
}
/// The type in which kernels of this compute dtype keep parameters, statistics and losses.
inline DType parameter_dtype(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

/// `n` distinct values on a shuffled grid over [low, high], as t holds them exactly; none of them is 0.
inline std::vector<double> grid_values(std::int64_t n, std::uint32_t seed, double low = -3, double high = 3) {
  std::mt19937 random(seed);
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = low + (high - low) * (static_cast<double>(i) + 0.5) / static_cast<double>(n);
  for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[random() % i]);
  return v;
}
inline Buffer grid(DType t, const Shape& shape, std::uint32_t seed, double low = -3, double high = 3) {
  return Buffer(t, shape, grid_values(shape.numel(), seed, low, high));
}

/// Every element of `got` within `tolerance` (absolute + relative to |want|) of `want`; NaN equals NaN only.
inline void expect_close(const Buffer& got, const std::vector<double>& want, double relative, double absolute,
                         const std::string& what) {
  ASSERT_EQ(got.numel(), static_cast<std::int64_t>(want.size())) << what;
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const double g = got.at(i), w = want[static_cast<std::size_t>(i)];
    const bool close = std::isnan(w)   ? std::isnan(g)
                       : std::isinf(w) ? g == w
                                       : std::abs(g - w) <= absolute + relative * std::abs(w);
    ASSERT_TRUE(close) << what << ": element " << i << " of " << got.numel() << ", got " << g << ", want "
                       << w << ", allowed " << absolute + relative * std::abs(w);
  }
}

/// Runs a kernel with its scratch, behind sentinels as well.
template <class Args>
void run(const KernelSlot<Args>& slot, Args args) {
  const Queue queue;
  if constexpr (requires { args.scratch_bytes; }) {
    args.scratch_bytes = slot.workspace(queue, args);
    Buffer scratch(DType::u8, {static_cast<std::int64_t>(args.scratch_bytes)});
    args.scratch = scratch.data();
    const Status status = slot(queue, args);
    ASSERT_TRUE(status.ok()) << status.message();
  } else {
    const Status status = slot(queue, args);
    ASSERT_TRUE(status.ok()) << status.message();
  }
}

/// Runs a test for each compute dtype on each instruction set that this machine has.
class KernelTest : public ::testing::TestWithParam<std::tuple<DType, std::int64_t>> {
 protected:
  void SetUp() override { choose(std::get<1>(GetParam())); }
  void TearDown() override { choose(0); }
  DType dtype() const { return std::get<0>(GetParam()); }

 private:
  static void choose(std::int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};
inline auto kernel_cases(std::vector<DType> dtypes = {DType::f32, DType::bf16, DType::f64}) {
  std::vector<std::int64_t> targets;
  for (std::int64_t t : {std::int64_t{HWY_SSE4}, std::int64_t{HWY_AVX2}, std::int64_t{HWY_AVX3}})
    if (hwy::SupportedTargets() & t) targets.push_back(t);
  return ::testing::Combine(::testing::ValuesIn(dtypes), ::testing::ValuesIn(targets));
}
inline std::string kernel_case_name(const ::testing::TestParamInfo<std::tuple<DType, std::int64_t>>& info) {
  return std::string(name_of(std::get<0>(info.param))) + "_" + hwy::TargetName(std::get<1>(info.param));
}

/// Lengths around every target's vector width, across a thread's share, and nothing at all.
inline const std::vector<std::int64_t> kLengths = {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 100, 40001};

}  // namespace cairn::kernels
