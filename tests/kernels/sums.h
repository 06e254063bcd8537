#pragma once
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "tests/kernels/kernel_test.h"

/// For kernels that sum many products: values, and tolerances from the length and size of the sums.
namespace cairn::kernels {

/// A value as the dtype stores it.
inline double rounded(DType t, double v) {
  if (t == DType::bf16) return static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(v))));
  if (t == DType::f32) return static_cast<double>(static_cast<float>(v));
  return v;
}

/// Uniform in [low, high), as `t` stores it.
inline std::vector<double> random_values(DType t, const Shape& shape, std::uint32_t seed, double low = -1,
                                         double high = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<double> v(static_cast<std::size_t>(shape.numel()));
  for (double& x : v) x = rounded(t, uniform(generator));
  return v;
}

inline std::vector<double> added(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> v = a;
  for (std::size_t i = 0; i < v.size(); ++i) v[i] += b[i];
  return v;
}

/// Error allowed to a sum of `length` products kept in fp32 (fp64 for fp64), `norm` the root of the sum of
/// their squares: roundings of partial sums of about that size make a random walk (4: four sigmas). The
/// output's own rounding, twice where something is added to it, comes on top.
inline double sum_tolerance(DType out, double want, double norm, double length) {
  const double kept = out == DType::f64 ? 0x1p-53 : 0x1p-24;
  return 4 * kept * std::sqrt(length) * norm + 2 * rounding_of(out) * (std::abs(want) + norm) + 1e-30;
}

/// got[i] within tolerance(i) of want[i]; prints the worst.
template <class Tolerance>
void expect_within(const Buffer& got, const std::vector<double>& want, Tolerance&& tolerance,
                   const std::string& what) {
  ASSERT_EQ(got.numel(), static_cast<std::int64_t>(want.size())) << what;
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(got.at(static_cast<std::int64_t>(i)) - want[i]);
    const double share = error == 0 ? 0 : error / tolerance(i);
    if (!(share <= worst)) {  // a NaN is the worst of all
      worst = share;
      at = i;
      if (std::isnan(share)) break;
    }
  }
  if (want.empty()) return;
  EXPECT_LE(worst, 1.0) << what << ": element " << at << " of " << want.size() << ", got "
                        << got.at(static_cast<std::int64_t>(at)) << ", want " << want[at] << ", allowed "
                        << tolerance(at);
}

}  // namespace cairn::kernels
