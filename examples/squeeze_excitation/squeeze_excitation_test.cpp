#include <cmath>

#include "engine/op_check.h"
#include "engine/ops.h"
#include "models/registry.h"

namespace cairn {
// squeeze_excitation.cpp
std::unique_ptr<nn::Module> make_squeeze_excitation(std::int64_t channels, std::int64_t reduction,
                                                    std::uint64_t seed);
}  // namespace cairn
using namespace cairn;

int main() {
  OpTest test;
  const auto block = make_squeeze_excitation(6, 3, 4);
  const GradcheckResult gradients = gradcheck(*block, op_input({2, 3, 4, 6}).value);
  test.expect(gradients.ok(), "gradients of the block's input and parameters, " +
                                  std::to_string(gradients.checked) + " elements: " + gradients.message());

  // The formula, by hand: image 0, one pixel, so that the mean is the pixel itself.
  const auto small = make_squeeze_excitation(2, 2, 4);
  const auto p = small->named_parameters();  // fc1.weight [1,2], fc1.bias [1], fc2.weight [2,1], fc2.bias [2]
  const auto value = [&](std::size_t i, std::size_t k) { return p[i].tensor.to_doubles()[k]; };
  const double x[2] = {0.75, 1.5};
  const double hidden = std::max(0.0, value(0, 0) * x[0] + value(0, 1) * x[1] + value(1, 0));
  const std::vector<double> y = small->forward(from_doubles({1, 1, 1, 2}, x)).to_doubles();
  for (std::size_t c = 0; c < 2; ++c) {
    const double gate = 1 / (1 + std::exp(-(value(2, c) * hidden + value(3, c))));
    test.expect(std::abs(y[c] - x[c] * gate) < 1e-6, "channel " + std::to_string(c) + " against the formula");
  }

  // The model that `cairn train --model se_resnet18` takes: a step has a gradient for every parameter.
  const auto model = models::make_model("se_resnet18", {.classes = 3, .image_size = 32, .seed = 1});
  const std::vector<std::int32_t> labels{0, 2};
  softmax_cross_entropy(model->forward(op_input({2, 32, 32, 3}).value.to(DType::f32)),
                        from_values<std::int32_t>({2}, labels))
      .backward();
  for (const nn::NamedTensor& t : model->named_parameters())
    if (!t.tensor.grad().defined()) test.expect(false, "a gradient of " + t.name);
  test.expect(model->named_parameters().size() == 62 + 8 * 4, "parameters of ResNet-18 and four a block");
  return test.status();
}
