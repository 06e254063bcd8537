#include "engine/op_check.h"
#include "engine/ops.h"

namespace cairn {
Tensor depthwise_conv(const Tensor& x, const Tensor& f);  // depthwise_conv.cpp
}
using namespace cairn;

namespace {

// The engine's grouped convolution with as many groups as channels is the same function: filter [C,R,S,1].
std::vector<double> as_grouped(std::span<const Tensor> in) {
  const auto c = static_cast<int>(in[1].size(2));
  const Tensor f = reshape(permute(in[1], {2, 0, 1}), {c, in[1].size(0), in[1].size(1), 1});
  const auto half = [&](int axis) { return static_cast<int>(in[1].size(axis) / 2); };
  return conv2d(in[0], f, {}, {.padding_h = half(0), .padding_w = half(1), .groups = c}).to_doubles();
}

}  // namespace

int main() {
  OpTest test;
  struct Case {
    Shape x, f;
  };
  for (const Case& c : {Case{{2, 5, 4, 3}, {3, 3, 3}}, Case{{1, 3, 7, 33}, {5, 3, 33}},
                        Case{{1, 1, 1, 1}, {3, 3, 1}}, Case{{0, 4, 4, 2}, {1, 1, 2}}})
    test.run("depthwise_conv " + to_string(c.x) + " " + to_string(c.f),
             [](auto in) { return depthwise_conv(in[0], in[1]); },
             std::vector{op_input(c.x), op_parameter(c.f)}, {.reference = &as_grouped});
  bool refused = false;
  try {
    depthwise_conv(zeros({1, 4, 4, 2}), zeros({2, 2, 2}));
  } catch (const ShapeError&) {
    refused = true;
  }
  test.expect(refused, "an even filter is refused");
  return test.status();
}
