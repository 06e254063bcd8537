#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

OpCase make(std::string name, const Shape& x, const Shape& w, bool bias, const Conv2dGeometry& g,
            const Pool2dGeometry& pool) {
  OpCase c;
  c.name = "conv2d_relu_max_pool2d/" + std::move(name);
  c.inputs = {{.shape = x}, {.shape = w, .parameter = true}};
  if (bias) c.inputs.push_back({.shape = {w[0]}, .parameter = true});
  c.op = [=](std::span<const Tensor> in) {
    return conv2d_relu_max_pool2d(in[0], in[1], bias ? in[2] : Tensor(), g, pool);
  };
  c.reference = [=](std::span<const reference::Array> in) {
    const reference::Array y = reference::conv2d(in[0], in[1], bias ? &in[2] : nullptr, g);
    return reference::max_pool2d(reference::map(y, [](double v) { return v > 0 ? v : 0.0; }), pool);
  };
  // As conv2d's; a pixel stands in several windows.
  const double windows = pool.kernel_h * pool.kernel_w;
  c.reduction =
      windows * static_cast<double>(std::max({w[1] * w[2] * w[3], w[1] * w[2] * w[0], x[0] * x[1] * x[2]}));
  return c;
}

}  // namespace

std::vector<OpCase> conv_pool_cases() {
  const Conv2dGeometry pad1{.padding_h = 1, .padding_w = 1};
  return {
      make("2x2", {2, 6, 8, 3}, {5, 3, 3, 3}, true, pad1, {}),
      make("2x2_odd_image", {1, 5, 7, 3}, {4, 3, 3, 3}, false, pad1, {}),
      make("stem", {1, 13, 11, 3}, {6, 7, 7, 3}, true,
           {.stride_h = 2, .stride_w = 2, .padding_h = 3, .padding_w = 3}, {3, 3, 2, 2, 1, 1}),
      make("1x1_image", {3, 1, 1, 5}, {17, 1, 1, 5}, true, {}, {1, 1, 1, 1, 0, 0}),
      make("wide_channels", {2, 8, 8, 16}, {32, 3, 3, 16}, true, pad1, {}),
  };
}

}  // namespace cairn::cases
