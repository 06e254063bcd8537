#include <cmath>

#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

using UnaryOp = Tensor (*)(const Tensor&);
using BinaryOp = Tensor (*)(const Tensor&, const Tensor&);

OpCase unary(const std::string& name, const Shape& shape, Input::Fill fill, UnaryOp op, double (*f)(double)) {
  OpCase c;
  c.name = name;
  c.inputs = {{.shape = shape, .fill = fill}};
  c.op = [op](std::span<const Tensor> in) { return op(in[0]); };
  c.reference = [f](std::span<const reference::Array> in) { return reference::map(in[0], f); };
  c.reduction = 4;  // a handful of roundings: value, derivative, product
  return c;
}

OpCase binary(const std::string& name, const Shape& a, const Shape& b, BinaryOp op,
              double (*f)(double, double)) {
  OpCase c;
  c.name = name;
  c.inputs = {{.shape = a}, {.shape = b, .fill = Input::Fill::positive}};
  c.op = [op](std::span<const Tensor> in) { return op(in[0], in[1]); };
  c.reference = [f](std::span<const reference::Array> in) { return reference::zip(in[0], in[1], f); };
  c.reduction =
      4.0 * static_cast<double>(std::max(a.numel(), b.numel()));  // a repeated operand's gradient is a sum
  return c;
}

}  // namespace

std::vector<OpCase> pointwise_cases() {
  using F = Input::Fill;
  std::vector<OpCase> cases;
  // One less, as many and one more than a vector of 16 floats; a scalar; four axes.
  for (const Shape& s : {Shape{1}, Shape{15}, Shape{16}, Shape{17}, Shape{2, 3, 5, 7}}) {
    const std::string at = '/' + std::to_string(s.numel());
    cases.push_back(unary("relu" + at, s, F::grid, relu, [](double v) { return v > 0 ? v : 0.0; }));
    cases.push_back(unary("exp" + at, s, F::grid, exp, [](double v) { return std::exp(v); }));
    cases.push_back(unary("log" + at, s, F::positive, log, [](double v) { return std::log(v); }));
    cases.push_back(unary("sqrt" + at, s, F::positive, sqrt, [](double v) { return std::sqrt(v); }));
    cases.push_back(
        unary("sigmoid" + at, s, F::grid, sigmoid, [](double v) { return 1 / (1 + std::exp(-v)); }));
    cases.push_back(unary("tanh" + at, s, F::grid, tanh, [](double v) { return std::tanh(v); }));
    cases.push_back(unary(
        "affine" + at, s, F::grid, [](const Tensor& x) { return affine(x, -1.5f, 0.25f); },
        [](double v) { return -1.5 * v + 0.25; }));
  }
  const std::pair<const char*, std::pair<Shape, Shape>> pairs[] = {
      {"same", {{2, 3, 4, 5}, {2, 3, 4, 5}}},
      {"last_axis", {{2, 3, 4, 5}, {5}}},
      {"scalar", {{3, 7}, {1}}},
      {"per_image", {{3, 2, 2, 4}, {3, 1, 1, 4}}},
      {"outer", {{4, 1}, {1, 6}}},
      {"left_smaller", {{3, 1}, {2, 3, 5}}},
      {"keepdim_row", {{4, 5}, {4, 1}}},
      {"one_each", {{1}, {1}}},
      {"middle", {{2, 3, 4, 5}, {2, 1, 4, 1}}},
  };
  for (const auto& [what, shapes] : pairs) {
    const auto& [a, b] = shapes;
    const std::string at = std::string("/") + what;
    cases.push_back(binary("add" + at, a, b, add, [](double x, double y) { return x + y; }));
    cases.push_back(binary("sub" + at, a, b, sub, [](double x, double y) { return x - y; }));
    cases.push_back(binary("mul" + at, a, b, mul, [](double x, double y) { return x * y; }));
    cases.push_back(binary("div" + at, a, b, div, [](double x, double y) { return x / y; }));
  }
  return cases;
}

}  // namespace cairn::cases
