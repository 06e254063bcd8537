#include <cstdio>

#include "engine/benchmark.h"
#include "engine/ops.h"
#include "kernels/cpu/waiting.h"

namespace cairn {
// fused_norm.cpp
Tensor add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& gamma, const Tensor& beta);
}  // namespace cairn
using namespace cairn;

int main(int argc, char** argv) {
  kernels::adopt_short_waits(argv);  // other programs may want the cores
  const Device device = parse_device(argc > 1 ? argv[1] : "auto");
  constexpr std::int64_t c = 256;
  const Tensor x = full({8, 28, 28, c}, 0.5, DType::f32, device),
               residual = full(x.shape(), 0.25, DType::f32, device);
  const Tensor gamma = full({c}, 1.5, DType::f32, device), beta = full({c}, 0.5, DType::f32, device);
  const double bytes = 3.0 * static_cast<double>(x.numel()) * 4;
  const auto row = [&](const char* name, auto run) {
    std::printf("%s\n", benchmark(device, run, bytes).line(name).c_str());
  };
  row("add_layer_norm 8x28x28x256", [&] { add_layer_norm(x, residual, gamma, beta); });
  row("the same of public ops", [&] {
    const Tensor s = add(x, residual), centred = sub(s, mean(s, {3}, true));
    const Tensor deviation = sqrt(affine(mean(mul(centred, centred), {3}, true), 1.0f, 1e-5f));
    add(mul(div(centred, deviation), gamma), beta);
  });
}
