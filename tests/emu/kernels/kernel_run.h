#pragma once
/// What the runs of every kernel share. Each test is a run of its own: its values are held against a
/// double-precision reference here, and, where the process records (CAIRN_EMU_RECORD), once more by tests/ptx
/// on what the PTX of the same kernels computes.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/device.h"
#include "kernels/emu/recorder.h"
#include "kernels/philox.h"
#include "tests/emu/ops/device.h"

namespace cairn {

inline constexpr DType kKernelDTypes[] = {DType::f32, DType::bf16, DType::f16};

/// Half a unit in the last place, relative: the error of one rounding.
inline double rounding_of(DType t) {
  return t == DType::bf16 ? 0x1p-8 : t == DType::f16 ? 0x1p-11 : t == DType::f32 ? 0x1p-24 : 0x1p-53;
}

inline std::vector<double> values_at(const kernels::ConstView& view) {
  const auto n = static_cast<std::size_t>(view.shape.numel());
  std::vector<std::byte> bytes(n * size_of(view.dtype));
  const kernels::DeviceApi& api = *kernels::device_api(DeviceType::cuda_emu);
  const kernels::Queue& queue = compute_queue(kEmulated);
  check(api.copy(queue, bytes.data(), view.data, bytes.size(), kernels::CopyKind::device_to_host));
  check(api.synchronize(queue));
  const kernels::ConstView host{bytes.data(), view.dtype, view.shape};
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    switch (view.dtype) {
      case DType::f32:
        out[i] = static_cast<double>(host.as<float>()[i]);
        break;
      case DType::f64:
        out[i] = host.as<double>()[i];
        break;
      case DType::bf16:
        out[i] = static_cast<double>(static_cast<float>(host.as<BFloat16>()[i]));
        break;
      case DType::f16:
        out[i] = static_cast<double>(static_cast<float>(host.as<Float16>()[i]));
        break;
      case DType::u8:
        out[i] = host.as<std::uint8_t>()[i];
        break;
      case DType::i32:
        out[i] = host.as<std::int32_t>()[i];
        break;
      case DType::i64:
        out[i] = static_cast<double>(host.as<std::int64_t>()[i]);
        break;
    }
  }
  return out;
}

class KernelRun : public NoReportsTest {
 protected:
  void SetUp() override {
    NoReportsTest::SetUp();
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    if (emu::recording()) emu::record_section(std::string(info->test_suite_name()) + '.' + info->name());
  }
  /// Every element within tolerance * max(largest |want|, 1e-3) of `want`; a NaN is wrong.
  static void expect(const std::string& what, const kernels::ConstView& got, const std::vector<double>& want,
                     double tolerance) {
    const std::vector<double> values = values_at(got);
    ASSERT_EQ(values.size(), want.size()) << what;
    if (emu::recording()) emu::record_expectation(what, got.data, got.dtype, values.size(), want, tolerance);
    double scale = 1e-3;
    for (const double w : want) scale = std::max(scale, std::abs(w));
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_LE(std::abs(values[i] - want[i]), tolerance * scale)
          << what << ": element " << i << " is " << values[i] << ", expected " << want[i];
  }
};

/// Multiples of 1/8 in [-4, 4), exact in every dtype, none of them 0.
inline std::vector<double> eighths(std::int64_t n, std::uint64_t stream = 0) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = static_cast<double>(uniform_below(philox(11, stream, i).v[0], 64)) / 8 - 4;
    if (v[i] == 0) v[i] = 0.125;
  }
  return v;
}

/// A tensor that starts `shift` elements into its memory: off 16 bytes where shift is 1.
inline Tensor placed(const Shape& shape, std::vector<double> values, DType dtype, int shift) {
  values.insert(values.begin(), static_cast<std::size_t>(shift), 0.0);
  return from_doubles({shape.numel() + shift}, values, dtype, kEmulated).alias(shape, shift);
}

}  // namespace cairn
