#include <cmath>

#include "engine/op_check.h"

namespace cairn {
Tensor swish(const Tensor& x);  // swish.cpp
}
using namespace cairn;

int main() {
  OpTest test;
  const OpCheckOptions options{.roundings = 2, .reference = [](std::span<const Tensor> in) {
                                 std::vector<double> y = in[0].to_vector<double>();
                                 for (double& v : y) v = v / (1 + std::exp(-v));
                                 return y;
                               }};
  for (const Shape& shape : {Shape{1}, Shape{37}, Shape{2, 5, 3, 8}, Shape{0}})
    test.run(
        "swish " + to_string(shape), [](auto in) { return swish(in[0]); },
        std::vector{op_input(shape, -6, 6)}, options);
  return test.status();
}
