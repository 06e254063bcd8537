#include "kernels/pointwise.h"

#include <functional>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class Pointwise : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Pointwise, kernel_cases(), kernel_case_name);

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> map(const Buffer& x, const std::function<double(double)>& f) {
  std::vector<double> y;
  for (double v : x.values()) y.push_back(f(v));
  return y;
}

TEST_P(Pointwise, ReluForward) {
  for (std::int64_t n : kLengths) {
    Buffer x = grid(dtype(), {n}, 1);
    Buffer y(dtype(), {n}), again(dtype(), {n});
    run(relu_forward, {x.in(), y.view()});
    run(relu_forward, {x.in(), again.view()});
    expect_close(y, map(x, [](double v) { return v > 0 ? v : 0; }), 0, 0, "relu of " + std::to_string(n));
    EXPECT_TRUE(y.same_bits(again));
    run(relu_forward, {x.in(), x.view()});
    EXPECT_TRUE(x.same_bits(y)) << "in place";
  }
}

TEST_P(Pointwise, ReluKeepsNaNAndInfinity) {
  Buffer x(dtype(), {5}, {kNan, kInf, -kInf, 0.0, -0.0});
  Buffer y(dtype(), {5});
  run(relu_forward, {x.in(), y.view()});
  expect_close(y, {kNan, kInf, 0, 0, 0}, 0, 0, "relu");
}

TEST_P(Pointwise, ReluBackward) {
  for (std::int64_t n : kLengths) {
    Buffer y = grid(dtype(), {n}, 2), dy = grid(dtype(), {n}, 3), dx(dtype(), {n});
    if (n > 3) {
      y.set(1, 0.0);   // gradient at 0 is 0
      y.set(3, kNan);  // not above 0
    }
    std::vector<double> want;
    for (std::int64_t i = 0; i < n; ++i) want.push_back(y.at(i) > 0 ? dy.at(i) : 0);
    run(relu_backward, {y.in(), dy.in(), dx.view()});
    expect_close(dx, want, 0, 0, "assign");
    Buffer sum = grid(dtype(), {n}, 4);
    for (std::int64_t i = 0; i < n; ++i) want[static_cast<std::size_t>(i)] += sum.at(i);
    run(relu_backward, {y.in(), dy.in(), sum.view(), Write::add});
    expect_close(sum, want, rounding_of(dtype()), 0, "add");
    run(relu_backward, {y.in(), dy.in(), dy.view()});
    EXPECT_TRUE(dy.same_bits(dx)) << "in place";
  }
}

struct Unary {
  UnaryOp op;
  double low, high;
  double (*f)(double);
  double (*derivative)(double x);
};
const Unary kUnary[] = {
    {UnaryOp::exp, -20, 20, [](double x) { return std::exp(x); }, [](double x) { return std::exp(x); }},
    {UnaryOp::log, 1e-3, 50, [](double x) { return std::log(x); }, [](double x) { return 1 / x; }},
    {UnaryOp::sqrt, 1e-3, 50, [](double x) { return std::sqrt(x); },
     [](double x) { return 0.5 / std::sqrt(x); }},
    {UnaryOp::sigmoid, -20, 20, [](double x) { return 1 / (1 + std::exp(-x)); },
     [](double x) { return 1 / (1 + std::exp(-x)) / (1 + std::exp(x)); }},
    {UnaryOp::tanh, -6, 6, [](double x) { return std::tanh(x); },
     [](double x) { return 1 / std::cosh(x) / std::cosh(x); }},
};

TEST_P(Pointwise, UnaryForwardAndBackward) {
  const double eps = rounding_of(dtype());
  // Highway's functions: up to 4 ulp in the compute type; then one rounding to the dtype.
  const double compute = rounding_of(parameter_dtype(dtype()));
  for (const Unary& u : kUnary)
    for (std::int64_t n : kLengths) {
      Buffer x = grid(dtype(), {n}, 5, u.low, u.high), y(dtype(), {n});
      run(unary_forward, {u.op, x.in(), y.view()});
      const std::string what = "op " + std::to_string(static_cast<int>(u.op)) + " n " + std::to_string(n);
      expect_close(y, map(x, u.f), 10 * compute + eps, 10 * compute, what);

      Buffer dy = grid(dtype(), {n}, 6), dx(dtype(), {n}), sum = grid(dtype(), {n}, 7);
      const std::vector<double> before = sum.values();
      run(unary_backward, {u.op, x.in(), y.in(), dy.in(), dx.view()});
      run(unary_backward, {u.op, x.in(), y.in(), dy.in(), sum.view(), Write::add});
      // From the saved y, whose own rounding is amplified: y(1-y) and 1-y*y lose by cancellation near |y|
      // = 1.
      std::vector<double> want, want_sum;
      for (std::int64_t i = 0; i < n; ++i) {
        want.push_back(dy.at(i) * u.derivative(x.at(i)));
        want_sum.push_back(want.back() + before[static_cast<std::size_t>(i)]);
      }
      const double absolute = 3 * 4 * (eps + 10 * compute);  // |dy| <= 3
      expect_close(dx, want, 4 * (eps + 10 * compute), absolute, what + " backward");
      expect_close(sum, want_sum, 4 * (eps + 10 * compute), absolute, what + " backward, add");
    }
}

TEST_P(Pointwise, UnaryOutsideTheComfortableRange) {
  const std::vector<double> x = {kNan, kInf, -kInf, 0, -1, 1e30, -1e30, 88.9, 110, 710, 1000, -120, -1000};
  for (const Unary& u : kUnary) {
    Buffer bx(dtype(), {static_cast<std::int64_t>(x.size())}, x), y(dtype(), bx.in().shape);
    run(unary_forward, {u.op, bx.in(), y.view()});
    const bool is_double = dtype() == DType::f64;
    std::vector<double> want;
    for (double v : bx.values()) {
      const double w = u.f(v);
      want.push_back(is_double ? w : static_cast<double>(static_cast<float>(w)));
    }
    // exp near the largest value: relative error of the argument times the argument.
    expect_close(y, want, rounding_of(dtype()) + 100 * rounding_of(parameter_dtype(dtype())), 1e-37,
                 "op " + std::to_string(static_cast<int>(u.op)));
  }
}

double apply(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
  }
  return 0;
}

// Index of y's element i in an operand of shape s.
std::int64_t broadcast_index(const Shape& y, const Shape& s, std::int64_t i) {
  std::int64_t index = 0, size = 1;
  for (int axis = y.rank - 1; axis >= 0; --axis) {
    if (s[axis] != 1) index += i % y[axis] * size;
    i /= y[axis];
    size *= s[axis];
  }
  return index;
}

struct Broadcast {
  Shape a, b;
};
const Broadcast kBroadcasts[] = {
    {{}, {}},
    {{1}, {1}},
    {{17}, {17}},
    {{40001}, {40001}},
    {{40001}, {1}},
    {{1}, {33}},
    {{5, 0}, {1, 1}},
    {{9, 65}, {1, 65}},
    {{300, 67}, {1, 67}},
    {{3, 64}, {3, 1}},
    {{2, 3, 4, 5}, {2, 3, 4, 5}},
    {{2, 5, 6, 24}, {1, 1, 1, 24}},
    {{3, 20, 20, 40}, {3, 1, 1, 40}},
    {{3, 7, 5, 1}, {1, 1, 1, 9}},
    {{2, 1, 4, 1}, {1, 3, 1, 5}},
    {{2, 3, 1, 5}, {2, 1, 4, 5}},
    {{1, 3, 1, 1}, {2, 3, 4, 5}},
    {{2, 3, 4, 1}, {1, 3, 4, 5}},
};

TEST_P(Pointwise, BinaryBroadcasts) {
  const double eps = rounding_of(dtype());
  for (const Broadcast& c : kBroadcasts)
    for (BinaryOp op : {BinaryOp::add, BinaryOp::sub, BinaryOp::mul, BinaryOp::div}) {
      Shape shape = c.a;
      for (int i = 0; i < shape.rank; ++i)
        if (c.a[i] == 1) shape[i] = c.b[i];
      const Buffer a = grid(dtype(), c.a, 8), b = grid(dtype(), c.b, 9, 0.5, 3);
      const std::string what =
          to_string(c.a) + " op " + std::to_string(static_cast<int>(op)) + " " + to_string(c.b);
      Buffer y(dtype(), shape), again(dtype(), shape), sum = grid(dtype(), shape, 10);
      const std::vector<double> before = sum.values();
      std::vector<double> want, want_sum, size;
      double largest = 1;
      for (std::int64_t i = 0; i < y.numel(); ++i) {
        const double v =
            0.5 * apply(op, a.at(broadcast_index(shape, c.a, i)), b.at(broadcast_index(shape, c.b, i)));
        want.push_back(v);
        want_sum.push_back(v + before[static_cast<std::size_t>(i)]);
        largest = std::max(largest, std::abs(v));
      }
      run(binary_forward, {op, a.in(), b.in(), y.view(), 0.5f});
      run(binary_forward, {op, a.in(), b.in(), again.view(), 0.5f});
      run(binary_forward, {op, a.in(), b.in(), sum.view(), 0.5f, Write::add});
      const double compute = rounding_of(parameter_dtype(dtype()));
      expect_close(y, want, eps + 3 * compute, 0, what);
      expect_close(sum, want_sum, eps + 4 * compute, 4 * compute * largest, what + ", add");
      EXPECT_TRUE(y.same_bits(again)) << what;
      if (c.a == shape) {
        Buffer in_place = a.copy();
        run(binary_forward, {op, in_place.in(), b.in(), in_place.view(), 0.5f});
        EXPECT_TRUE(in_place.same_bits(y)) << what << " in a's memory";
      }
      if (c.b == shape) {
        Buffer in_place = b.copy();
        run(binary_forward, {op, a.in(), in_place.in(), in_place.view(), 0.5f});
        EXPECT_TRUE(in_place.same_bits(y)) << what << " in b's memory";
      }
    }
}

TEST_P(Pointwise, AffineAndInPlace) {
  const double eps = rounding_of(dtype()), compute = rounding_of(parameter_dtype(dtype()));
  for (std::int64_t n : kLengths) {
    Buffer x = grid(dtype(), {n}, 11), y(dtype(), {n}), sum = grid(dtype(), {n}, 12);
    std::vector<double> want = map(x, [](double v) { return 1.5 * v - 0.75; }), want_sum = want;
    for (std::int64_t i = 0; i < n; ++i) want_sum[static_cast<std::size_t>(i)] += sum.at(i);
    run(affine, {x.in(), y.view(), 1.5f, -0.75f});
    run(affine, {x.in(), sum.view(), 1.5f, -0.75f, Write::add});
    expect_close(y, want, eps + compute, compute, "affine");
    expect_close(sum, want_sum, eps + compute, 12 * compute, "affine, add");
    run(affine, {x.in(), x.view(), 1.5f, -0.75f});
    EXPECT_TRUE(x.same_bits(y));
  }
}

// One thread or many: the numbers may not depend on how a range is cut.
TEST_P(Pointwise, ThreadsDoNotChangeBits) {
  const int threads = num_threads();
  Buffer x = grid(dtype(), {40001}, 13, -20, 20), one(dtype(), {40001}), many(dtype(), {40001});
  set_num_threads(1);
  run(unary_forward, {UnaryOp::sigmoid, x.in(), one.view()});
  set_num_threads(3);
  run(unary_forward, {UnaryOp::sigmoid, x.in(), many.view()});
  set_num_threads(threads);
  EXPECT_TRUE(one.same_bits(many));
}

}  // namespace
}  // namespace cairn::kernels
