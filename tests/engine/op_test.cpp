// Drives the table in tests/cases over the CPU backend: values and gradients against the double-precision
// reference (gradients: finite differences of the reference), in fp64, fp32 and bf16.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/philox.h"
#include "tests/cases/op_case.h"

namespace cairn {
namespace {

using cases::Input;
using cases::OpCase;
using reference::Array;

double epsilon_of(DType t) {
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
std::vector<double> grid(std::int64_t n, Input::Fill fill, std::uint64_t stream) {
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

DType dtype_of_input(const Input& input, DType compute) {
  return input.parameter && compute != DType::f64 ? DType::f32 : compute;
}

Prepared prepare(const OpCase& c, DType dtype) {
  Prepared p;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    Tensor t =
        from_doubles(input.shape, grid(input.shape.numel(), input.fill, i), dtype_of_input(input, dtype));
    Array a(input.shape);
    a.values = t.to_doubles();
    t.set_requires_grad(input.grad);
    p.tensors.push_back(std::move(t));
    p.arrays.push_back(std::move(a));
  }
  return p;
}

double largest(const std::vector<double>& v) {
  double m = 0;
  for (const double x : v) m = std::max(m, std::abs(x));
  return m;
}

/// k * eps * sqrt(reduction) of the largest value; k covers the constant of a blocked sum and the rounding of
/// intermediate tensors (in bf16 those dominate: y, dy and the mask's operands are each rounded once).
void expect_close(const std::vector<double>& got, const std::vector<double>& want, double tolerance,
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

double tolerance(const OpCase& c, DType dtype) {
  return 4 * epsilon_of(dtype) * std::sqrt(std::max(c.reduction, 1.0));
}

class OpTest : public testing::TestWithParam<std::tuple<OpCase, DType>> {
 protected:
  const OpCase& op_case() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(OpTest, ForwardMatchesReference) {
  const OpCase& c = op_case();
  const Prepared p = prepare(c, dtype());
  const Tensor y = c.op(p.tensors);
  const Array want = c.reference(p.arrays);
  ASSERT_EQ(y.shape(), want.shape);
  expect_close(y.to_doubles(), want.values, tolerance(c, dtype()), c.name);
}

TEST_P(OpTest, BackwardMatchesFiniteDifferencesOfTheReference) {
  const OpCase& c = op_case();
  const Prepared p = prepare(c, dtype());
  const Tensor y = c.op(p.tensors);
  const Tensor dy = from_doubles(y.shape(), grid(y.numel(), Input::Fill::grid, 99), y.dtype());
  const std::vector<double> weights = dy.to_doubles();
  y.backward(dy);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const std::string what = c.name + " gradient of input " + std::to_string(i);
    const Tensor grad = p.tensors[i].grad();
    if (!c.inputs[i].grad) {
      EXPECT_FALSE(grad.defined()) << what;
      continue;
    }
    ASSERT_TRUE(grad.defined()) << what;
    ASSERT_EQ(grad.shape(), c.inputs[i].shape) << what;
    std::vector<Array> moved = p.arrays;
    const auto want = reference::numeric_gradient(
        [&](const std::vector<double>& x) {
          moved[i].values = x;
          const Array out = c.reference(moved);
          return std::inner_product(out.values.begin(), out.values.end(), weights.begin(), 0.0);
        },
        p.arrays[i].values);
    // Central differences with h = 1e-5 are good to about 1e-9.
    expect_close(grad.to_doubles(), want, tolerance(c, dtype()) + 1e-7, what);
  }
}

TEST_P(OpTest, SecondUseAddsItsGradient) {
  const OpCase& c = op_case();
  const Prepared once = prepare(c, dtype());
  const Prepared twice = prepare(c, dtype());
  const Tensor y = c.op(once.tensors);
  const Tensor dy = from_doubles(y.shape(), grid(y.numel(), Input::Fill::grid, 99), y.dtype());
  y.backward(dy);
  c.op(twice.tensors).backward(dy);
  c.op(twice.tensors).backward(dy);
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    if (!c.inputs[i].grad) continue;
    std::vector<double> want = once.tensors[i].grad().to_doubles();
    for (double& v : want) v *= 2;
    expect_close(twice.tensors[i].grad().to_doubles(), want, 4 * epsilon_of(dtype()), c.name);
  }
}

TEST_P(OpTest, RunsTwiceToTheSameBits) {
  const OpCase& c = op_case();
  std::vector<std::vector<double>> runs[2];
  for (auto& run : runs) {
    const Prepared p = prepare(c, dtype());
    const Tensor y = c.op(p.tensors);
    y.backward(from_doubles(y.shape(), grid(y.numel(), Input::Fill::grid, 99), y.dtype()));
    run.push_back(y.to_doubles());
    for (const Tensor& t : p.tensors)
      if (t.grad().defined()) run.push_back(t.grad().to_doubles());
  }
  EXPECT_EQ(runs[0], runs[1]);
}

std::string test_name(const testing::TestParamInfo<OpTest::ParamType>& info) {
  std::string name = std::get<0>(info.param).name + '_' + name_of(std::get<1>(info.param));
  std::replace_if(
      name.begin(), name.end(), [](char ch) { return !std::isalnum(static_cast<unsigned char>(ch)); }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cpu, OpTest,
                         testing::Combine(testing::ValuesIn(cases::all_cases()),
                                          testing::Values(DType::f64, DType::f32, DType::bf16)),
                         test_name);

}  // namespace
}  // namespace cairn
