#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

OpCase make(std::string name, const Shape& x, const Shape& w, bool bias, const Conv2dGeometry& g,
            Activation activation = Activation::none, bool residual = false) {
  OpCase c;
  c.name = "conv2d/" + std::move(name);
  c.inputs = {{.shape = x}, {.shape = w, .parameter = true}};
  if (bias) c.inputs.push_back({.shape = {w[0]}, .parameter = true});
  if (residual) {
    const auto length = [](std::int64_t in, std::int64_t filter, int stride, int padding, int dilation) {
      return (in + 2 * padding - dilation * (filter - 1) - 1) / stride + 1;
    };
    c.inputs.push_back({.shape = {x[0], length(x[1], w[1], g.stride_h, g.padding_h, g.dilation_h),
                                  length(x[2], w[2], g.stride_w, g.padding_w, g.dilation_w), w[0]}});
  }
  c.op = [=](std::span<const Tensor> in) {
    return conv2d(in[0], in[1], bias ? in[2] : Tensor(), g, activation, residual ? in.back() : Tensor());
  };
  c.reference = [=](std::span<const reference::Array> in) {
    reference::Array y = reference::conv2d(in[0], in[1], bias ? &in[2] : nullptr, g);
    if (residual) y = reference::zip(y, in.back(), [](double a, double b) { return a + b; });
    return activation == Activation::relu ? reference::map(y, [](double v) { return v > 0 ? v : 0.0; }) : y;
  };
  // Forward sums R*S*C terms, dgrad R*S*K, wgrad N*P*Q.
  c.reduction = static_cast<double>(std::max({w[1] * w[2] * w[3], w[1] * w[2] * w[0], x[0] * x[1] * x[2]}));
  return c;
}

}  // namespace

std::vector<OpCase> conv2d_cases() {
  return {
      make("1x1_image", {1, 1, 1, 3}, {4, 1, 1, 3}, false, {}),
      make("1x1_image_3x3_filter", {2, 1, 1, 5}, {3, 3, 3, 5}, true, {.padding_h = 1, .padding_w = 1}),
      make("3x3_pad1", {2, 5, 7, 3}, {4, 3, 3, 3}, false, {.padding_h = 1, .padding_w = 1}),
      make("3x3_pad1_bias", {2, 5, 6, 3}, {5, 3, 3, 3}, true, {.padding_h = 1, .padding_w = 1}),
      make("3x3_pad1_bias_relu", {2, 5, 6, 3}, {5, 3, 3, 3}, true, {.padding_h = 1, .padding_w = 1},
           Activation::relu),
      make("3x3_pad1_residual", {2, 5, 6, 3}, {5, 3, 3, 3}, false, {.padding_h = 1, .padding_w = 1},
           Activation::none, true),
      make("1x1_stride2_bias_residual_relu", {2, 6, 5, 7}, {9, 1, 1, 7}, true, {.stride_h = 2, .stride_w = 2},
           Activation::relu, true),
      make("3x3_stride2_pad1", {2, 8, 7, 4}, {3, 3, 3, 4}, false,
           {.stride_h = 2, .stride_w = 2, .padding_h = 1, .padding_w = 1}),
      make("7x7_stride2_pad3", {1, 11, 9, 3}, {4, 7, 7, 3}, false,
           {.stride_h = 2, .stride_w = 2, .padding_h = 3, .padding_w = 3}),
      make("1x1_stride2", {2, 6, 5, 7}, {9, 1, 1, 7}, false, {.stride_h = 2, .stride_w = 2}),
      make("stride_over_filter", {1, 9, 8, 2}, {3, 2, 2, 2}, true, {.stride_h = 3, .stride_w = 4}),
      make("uneven", {1, 6, 9, 2}, {3, 2, 4, 2}, true,
           {.stride_h = 1, .stride_w = 2, .padding_h = 0, .padding_w = 1}),
      make("dilation2", {1, 8, 9, 3}, {4, 3, 3, 3}, false,
           {.padding_h = 2, .padding_w = 2, .dilation_h = 2, .dilation_w = 2}),
      make("groups2", {2, 5, 5, 6}, {4, 3, 3, 3}, true, {.padding_h = 1, .padding_w = 1, .groups = 2}),
      make("depthwise", {1, 6, 5, 5}, {5, 3, 3, 1}, false, {.padding_h = 1, .padding_w = 1, .groups = 5}),
      make("17_channels", {1, 4, 4, 17}, {19, 3, 3, 17}, false, {.padding_h = 1, .padding_w = 1}),
  };
}

}  // namespace cairn::cases
