#pragma once
// Holds the table in tests/cases on a device against the double-precision reference, values and gradients
// (finite differences of the reference). One file of a test program includes it and instantiates OpTest for
// its devices and dtypes.
#include <numeric>

#include "tests/cases/op_run.h"

namespace cairn::cases {

class OpTest : public testing::TestWithParam<std::tuple<OpCase, DType, Device>> {
 protected:
  const OpCase& op_case() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  Device device() const { return std::get<2>(GetParam()); }
};

TEST_P(OpTest, ForwardMatchesReference) {
  const OpCase& c = op_case();
  const Prepared p = prepare(c, dtype(), device());
  const Tensor y = c.op(p.tensors);
  const Array want = c.reference(p.arrays);
  ASSERT_EQ(y.shape(), want.shape);
  expect_close(y.to_doubles(), want.values, tolerance(c, dtype()), c.name);
}

TEST_P(OpTest, BackwardMatchesFiniteDifferencesOfTheReference) {
  const OpCase& c = op_case();
  const Prepared p = prepare(c, dtype(), device());
  const Tensor y = c.op(p.tensors);
  const Tensor dy = output_gradient(y);
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
  const Prepared once = prepare(c, dtype(), device());
  const Prepared twice = prepare(c, dtype(), device());
  const Tensor y = c.op(once.tensors);
  const Tensor dy = output_gradient(y);
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
  EXPECT_EQ(run_once(op_case(), dtype(), device()), run_once(op_case(), dtype(), device()));
}

}  // namespace cairn::cases
