#include "kernels/reduce.h"

#include <limits>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class ReduceKernel : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, ReduceKernel, kernel_cases(), kernel_case_name);

struct Case {
  Shape x, y;
};
const Case kCases[] = {
    {{1}, {1}},
    {{17}, {1}},
    {{40001}, {1}},
    {{5}, {5}},
    {{300, 70}, {1, 70}},
    {{3000, 33}, {1, 33}},
    {{2, 1500}, {1, 1500}},
    {{33, 100}, {33, 1}},
    {{2, 40000}, {2, 1}},
    {{4, 9, 9, 24}, {1, 1, 1, 24}},
    {{4, 9, 9, 24}, {4, 1, 1, 24}},
    {{4, 9, 9, 24}, {4, 1, 1, 1}},
    {{4, 9, 9, 24}, {1, 9, 1, 24}},
    {{4, 9, 9, 24}, {1, 9, 1, 1}},
    {{4, 9, 9, 24}, {4, 1, 9, 1}},
    {{4, 9, 1, 3}, {4, 1, 1, 3}},
    {{20, 700}, {1, 700}},
};

std::int64_t output_index(const Case& c, std::int64_t i) {
  std::int64_t index = 0, size = 1;
  for (int axis = c.x.rank - 1; axis >= 0; --axis) {
    if (c.y[axis] != 1) index += i % c.x[axis] * size;
    i /= c.x[axis];
    size *= c.y[axis];
  }
  return index;
}

std::vector<double> reduced(const Case& c, const Buffer& x, ReduceOp op) {
  std::vector<long double> y(static_cast<std::size_t>(c.y.numel()),
                             op == ReduceOp::sum ? 0 : -std::numeric_limits<long double>::infinity());
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    long double& out = y[static_cast<std::size_t>(output_index(c, i))];
    const auto v = static_cast<long double>(x.at(i));
    out = op == ReduceOp::sum ? out + v : std::max(out, v);
  }
  std::vector<double> rounded;
  for (long double v : y) rounded.push_back(static_cast<double>(v));
  return rounded;
}

TEST_P(ReduceKernel, SumAndMaxOverAnyAxes) {
  const double compute = rounding_of(parameter_dtype(dtype()));
  for (const Case& c : kCases)
    for (ReduceOp op : {ReduceOp::sum, ReduceOp::max}) {
      const Buffer x = grid(dtype(), c.x, 1);
      Buffer y(dtype(), c.y), again(dtype(), c.y), sum = grid(dtype(), c.y, 2);
      const float scale = op == ReduceOp::sum ? 0.25f : 1.0f;
      std::vector<double> want = reduced(c, x, op), want_sum = want;
      for (std::size_t i = 0; i < want.size(); ++i) {
        want[i] *= static_cast<double>(scale);
        want_sum[i] = want[i] + sum.at(static_cast<std::int64_t>(i));
      }
      run(reduce, {op, x.in(), y.view(), 0.25f});
      run(reduce, {op, x.in(), again.view(), 0.25f});
      run(reduce, {op, x.in(), sum.view(), 0.25f, Write::add});
      const std::string what =
          to_string(c.x) + " to " + to_string(c.y) + (op == ReduceOp::max ? " max" : " sum");
      // Blocks of b = 128 terms, then the n / b block sums: sqrt(b + n / b) * u * sum |x| (the bound of
      // Higham and Mary 2019 for rounding errors that are independent); |x| is 1.5 on average. The oracle
      // sums in long double.
      const double n = static_cast<double>(c.x.numel() / c.y.numel());
      const double growth = std::sqrt(std::min(n, 128 + n / 128));
      const double absolute = op == ReduceOp::max ? 0 : growth * compute * 1.5 * n * 0.25;
      expect_close(y, want, rounding_of(dtype()), absolute, what);
      expect_close(sum, want_sum, rounding_of(dtype()) + compute, absolute + compute * 3, what + ", add");
      EXPECT_TRUE(y.same_bits(again)) << what;
    }
}

// A plain running sum of 4 M ones' neighbours would lose some 1e-2 here.
TEST(ReduceKernelError, LongSumsStayExact) {
  const std::int64_t n = 1 << 22;
  for (const Case& c : {Case{{n}, {1}}, Case{{n / 2, 2}, {1, 2}}}) {
    Buffer x(DType::f32, c.x), y(DType::f32, c.y);
    double want = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      x.set(i, 1.0 + static_cast<double>(i % 1000) * 1e-3);
      if (i % c.y.numel() == 0) want += x.at(i);
    }
    run(reduce, {ReduceOp::sum, x.in(), y.view()});
    EXPECT_NEAR(y.at(0), want, 1e-6 * want);
  }
}

TEST_P(ReduceKernel, NaNWinsTheMaximum) {
  for (const Case& c : {Case{{100}, {1}}, Case{{50, 20}, {1, 20}}})
    for (std::int64_t at : {0, 31, 99}) {
      Buffer x = grid(dtype(), c.x, 3), y(dtype(), c.y);
      x.set(at, std::nan(""));
      run(reduce, {ReduceOp::max, x.in(), y.view()});
      for (std::int64_t i = 0; i < y.numel(); ++i)
        EXPECT_EQ(std::isnan(y.at(i)), i == output_index(c, at)) << "NaN at " << at << ", output " << i;
    }
}

TEST_P(ReduceKernel, EmptySumIsZero) {
  Buffer x(dtype(), {0, 5}), y(dtype(), {1, 5}), nothing(dtype(), {0, 1});
  run(reduce, {ReduceOp::sum, x.in(), y.view()});
  expect_close(y, {0, 0, 0, 0, 0}, 0, 0, "empty");
  run(reduce, {ReduceOp::sum, x.in(), nothing.view()});
}

TEST_P(ReduceKernel, SameBitsForOneThreadCount) {
  const int threads = num_threads();
  const Buffer x = grid(dtype(), {4, 100, 100}, 4);
  for (int n : {1, 2, 3, 5}) {
    set_num_threads(n);
    Buffer y(dtype(), {1, 1, 1}), again(dtype(), {1, 1, 1});
    run(reduce, {ReduceOp::sum, x.in(), y.view()});
    run(reduce, {ReduceOp::sum, x.in(), again.view()});
    EXPECT_TRUE(y.same_bits(again)) << n << " threads";
  }
  set_num_threads(threads);
}

TEST_P(ReduceKernel, MaxBackwardSharesTies) {
  for (const Case& c : kCases) {
    // Few values, so that there are ties.
    Buffer x(dtype(), c.x), y(dtype(), c.y);
    for (std::int64_t i = 0; i < x.numel(); ++i) x.set(i, static_cast<double>(i * 7919 % 23));
    const std::vector<double> maxima = reduced(c, x, ReduceOp::max);
    for (std::int64_t i = 0; i < y.numel(); ++i) y.set(i, maxima[static_cast<std::size_t>(i)]);
    const Buffer dy = grid(dtype(), c.y, 5);
    Buffer dx(dtype(), c.x), sum = grid(dtype(), c.x, 6);
    std::vector<double> count(maxima.size(), 0), want, want_sum;
    const auto wins = [&](std::int64_t i) {
      return x.at(i) == maxima[static_cast<std::size_t>(output_index(c, i))];
    };
    for (std::int64_t i = 0; i < x.numel(); ++i)
      count[static_cast<std::size_t>(output_index(c, i))] += wins(i);
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const std::int64_t o = output_index(c, i);
      want.push_back(wins(i) ? dy.at(o) / count[static_cast<std::size_t>(o)] : 0);
      want_sum.push_back(want.back() + sum.at(i));
    }
    const std::string what = to_string(c.x) + " to " + to_string(c.y);
    const double compute = rounding_of(parameter_dtype(dtype()));
    run(reduce_max_backward, {x.in(), y.in(), dy.in(), dx.view()});
    expect_close(dx, want, rounding_of(dtype()) + compute, 0, what);
    run(reduce_max_backward, {x.in(), y.in(), dy.in(), sum.view(), Write::add});
    expect_close(sum, want_sum, rounding_of(dtype()) + compute, 3 * compute, what + ", add");
  }
}

TEST_P(ReduceKernel, L2Norm) {
  for (std::int64_t n : kLengths) {
    const Buffer x = grid(dtype(), {n}, 7);
    double squares = 0;
    for (double v : x.values()) squares += v * v;
    Buffer norm(DType::f32, {1}), again(DType::f32, {1});
    run(l2_norm, {x.in(), norm.view()});
    run(l2_norm, {x.in(), again.view()});
    expect_close(norm, {std::sqrt(squares)}, rounding_of(DType::f32), 0, "norm of " + std::to_string(n));
    EXPECT_TRUE(norm.same_bits(again));
  }
}

TEST_P(ReduceKernel, L2NormDoesNotOverflow) {
  Buffer x(dtype(), {20}), norm(DType::f32, {1});
  for (std::int64_t i = 0; i < 20; ++i) x.set(i, 0x1p120);
  run(l2_norm, {x.in(), norm.view()});
  expect_close(norm, {std::sqrt(20.0) * 0x1p120}, rounding_of(DType::f32), 0, "norm");
}

}  // namespace
}  // namespace cairn::kernels
