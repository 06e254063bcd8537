#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

OpCase make(std::string name, std::int64_t n, std::int64_t c, std::int64_t k, bool bias,
            Activation activation = Activation::none) {
  OpCase result;
  result.name = "linear/" + std::move(name);
  result.inputs = {{.shape = {n, c}}, {.shape = {k, c}, .parameter = true}};
  if (bias) result.inputs.push_back({.shape = {k}, .parameter = true});
  result.op = [=](std::span<const Tensor> in) {
    return linear(in[0], in[1], bias ? in[2] : Tensor(), activation);
  };
  result.reference = [=](std::span<const reference::Array> in) {
    const reference::Array y = reference::linear(in[0], in[1], bias ? &in[2] : nullptr);
    return activation == Activation::relu ? reference::map(y, [](double v) { return v > 0 ? v : 0.0; }) : y;
  };
  result.reduction = static_cast<double>(std::max({n, c, k}));
  return result;
}

OpCase make_matmul(std::string name, const Shape& a, const Shape& b) {
  OpCase result;
  result.name = "matmul/" + std::move(name);
  result.inputs = {{.shape = a}, {.shape = b}};
  result.op = [](std::span<const Tensor> in) { return matmul(in[0], in[1]); };
  result.reference = [](std::span<const reference::Array> in) {
    const auto batched = [](reference::Array t) {
      if (t.shape.rank == 2) t.shape = {1, t.shape[0], t.shape[1]};
      return t;
    };
    reference::Array y = reference::matmul(batched(in[0]), batched(in[1]));
    if (in[0].shape.rank == 2 && in[1].shape.rank == 2) y.shape = {y.shape[1], y.shape[2]};
    return y;
  };
  result.reduction = static_cast<double>(std::max({a[0], a[1], a[2], b[0], b[1], b[2]}));
  return result;
}

}  // namespace

std::vector<OpCase> linear_cases() {
  return {make("single", 1, 1, 1, true), make("odd", 3, 7, 5, true), make("no_bias", 2, 17, 9, false),
          make("relu", 4, 8, 6, true, Activation::relu), make("batch1", 1, 33, 7, true)};
}

std::vector<OpCase> matmul_cases() {
  return {make_matmul("2d", {3, 5}, {5, 4}), make_matmul("batched", {2, 3, 5}, {2, 5, 4}),
          make_matmul("shared_right", {3, 2, 5}, {1, 5, 3}), make_matmul("shared_left", {1, 2, 3}, {4, 3, 2}),
          make_matmul("vector", {1, 9}, {9, 1})};
}

}  // namespace cairn::cases
