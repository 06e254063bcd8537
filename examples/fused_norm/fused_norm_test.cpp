#include <cmath>

#include "engine/op_check.h"

namespace cairn {
// fused_norm.cpp
Tensor add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& gamma, const Tensor& beta);
}  // namespace cairn
using namespace cairn;

namespace {

std::vector<double> by_definition(std::span<const Tensor> in) {
  std::vector<double> s = in[0].to_vector<double>();
  const auto residual = in[1].to_vector<double>(), gamma = in[2].to_vector<double>(),
             beta = in[3].to_vector<double>();
  const std::size_t c = gamma.size();
  for (std::size_t i = 0; i < s.size(); ++i) s[i] += residual[i];
  for (std::size_t row = 0; row < s.size(); row += c) {
    double mean = 0, variance = 0;
    for (std::size_t i = 0; i < c; ++i) mean += s[row + i] / static_cast<double>(c);
    for (std::size_t i = 0; i < c; ++i) variance += std::pow(s[row + i] - mean, 2) / static_cast<double>(c);
    for (std::size_t i = 0; i < c; ++i)
      s[row + i] =
          (s[row + i] - mean) / std::sqrt(variance + static_cast<double>(1e-5f)) * gamma[i] + beta[i];
  }
  return s;
}

}  // namespace

int main() {
  OpTest test;
  // Fewer channels than lanes, as many, odd and more; rows that do not fill the last block.
  for (const Shape& shape : {Shape{2, 3, 1, 5}, Shape{9, 32}, Shape{3, 67}, Shape{0, 4}}) {
    const Shape c{shape[shape.rank - 1]};
    test.run("add_layer_norm " + to_string(shape),
             [](auto in) { return add_layer_norm(in[0], in[1], in[2], in[3]); },
             std::vector{op_input(shape), op_input(shape, -1, 1, 3), op_parameter(c, 0.5, 1.5),
                         op_parameter(c, -1, 1)},
             {.roundings = 8, .reference = &by_definition});  // sums of C terms, three of them in a row
  }
  return test.status();
}
