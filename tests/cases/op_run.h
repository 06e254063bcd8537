#pragma once
// Drives the table in tests/cases over a device: values and gradients against the double-precision reference
// (gradients: finite differences of the reference). One file of a test program includes it and instantiates
// OpTest for its devices and dtypes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/philox.h"
#include "tests/cases/op_case.h"

namespace cairn::cases {

using reference::Array;

inline double epsilon_of(DType t) {
  switch (t) {
    case DType::f64:
      return 0x1p-52;
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0x1p-23;
  }
}

/// `n` distinct values, evenly spaced, in an order drawn from Philox; rounding to bf16 keeps them distinct
/// for small n.
inline std::vector<double> grid(std::int64_t n, Input::Fill fill, std::uint64_t stream) {
  std::vector<double> values(static_cast<std::size_t>(n));
  const auto [low, high] = fill == Input::Fill::positive ? std::pair{0.25, 2.0} : std::pair{-1.5, 1.5};
  const double step = (high - low) / static_cast<double>(n);
  for (std::int64_t i = 0; i < n; ++i)
    values[static_cast<std::size_t>(i)] = low + (static_cast<double>(i) + 0.5) * step;
  for (std::int64_t i = n - 1; i > 0; --i) {
    const auto j = static_cast<std::int64_t>(philox(7, stream, static_cast<std::uint64_t>(i)).v[0] %
                                             static_cast<std::uint32_t>(i + 1));
    std::swap(values[static_cast<std::size_t>(i)], values[static_cast<std::size_t>(j)]);
  }
  // An odd count has its middle value at 0, where ReLU has its kink.
  for (double& v : values)
    if (std::abs(v) < step / 4) v = step / 3;
  return values;
}

struct Prepared {
  std::vector<Tensor> tensors;
  std::vector<Array> arrays;  // what the tensors hold after rounding
};

inline DType dtype_of_input(const Input& input, DType compute) {
  return input.parameter && compute != DType::f64 ? DType::f32 : compute;
}

inline Prepared prepare(const OpCase& c, DType dtype, Device device) {
  Prepared p;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    Tensor t = from_doubles(input.shape, grid(input.shape.numel(), input.fill, i),
                            dtype_of_input(input, dtype), device);
    Array a(input.shape);
    a.values = t.to_doubles();
    t.set_requires_grad(input.grad);
    p.tensors.push_back(std::move(t));
    p.arrays.push_back(std::move(a));
  }
  return p;
}

inline double largest(const std::vector<double>& v) {
  double m = 0;
  for (const double x : v) m = std::max(m, std::abs(x));
  return m;
}

/// k * eps * sqrt(reduction) of the largest value; k covers the constant of a blocked sum and the rounding of
/// intermediate tensors (in bf16 those dominate: y, dy and the mask's operands are each rounded once).
inline void expect_close(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double scale = std::max(largest(want), 1e-3);
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]) / scale;
    if (!(error <= worst)) {  // a NaN is the worst of all
      worst = error;
      at = i;
      if (std::isnan(error)) break;
    }
  }
  EXPECT_LE(worst, tolerance) << what << ": element " << at << " is " << got[at] << ", expected " << want[at]
                              << " (" << worst / tolerance << " of the tolerance)";
}

inline double tolerance(const OpCase& c, DType dtype) {
  return 4 * epsilon_of(dtype) * std::sqrt(std::max(c.reduction, 1.0));
}

inline Tensor output_gradient(const Tensor& y) {
  return from_doubles(y.shape(), grid(y.numel(), Input::Fill::grid, 99), y.dtype(), y.device());
}

/// Forward and backward once; y first, then the gradients that arrived.
inline std::vector<std::vector<double>> run_once(const OpCase& c, DType dtype, Device device) {
  const Prepared p = prepare(c, dtype, device);
  const Tensor y = c.op(p.tensors);
  y.backward(output_gradient(y));
  std::vector<std::vector<double>> results = {y.to_doubles()};
  for (const Tensor& t : p.tensors)
    if (t.grad().defined()) results.push_back(t.grad().to_doubles());
  return results;
}

inline std::string test_name(const testing::TestParamInfo<std::tuple<OpCase, DType, Device>>& info) {
  std::string name = std::get<0>(info.param).name + '_' + name_of(std::get<1>(info.param));
  std::replace_if(
      name.begin(), name.end(), [](char ch) { return !std::isalnum(static_cast<unsigned char>(ch)); }, '_');
  return name;
}

}  // namespace cairn::cases
