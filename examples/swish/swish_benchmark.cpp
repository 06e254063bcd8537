#include <cstdio>

#include "engine/benchmark.h"
#include "engine/ops.h"
#include "kernels/cpu/waiting.h"

namespace cairn {
Tensor swish(const Tensor& x);  // swish.cpp
}
using namespace cairn;

int main(int argc, char** argv) {
  kernels::adopt_short_waits(argv);  // other programs may want the cores
  const Device device = parse_device(argc > 1 ? argv[1] : "auto");
  Tensor x = full({32, 56, 56, 64}, 0.5, DType::f32, device);
  const double bytes = static_cast<double>(x.numel()) * 4;
  const auto row = [&](const char* name, double moved, auto f) {
    std::printf("%s\n", benchmark(device, f, moved).line(name).c_str());
  };
  row("swish", 2 * bytes, [&] { swish(x); });
  row("the same of two public ops", 5 * bytes, [&] { mul(x, sigmoid(x)); });
  x.set_requires_grad();
  const Tensor dy = full(x.shape(), 1.0, DType::f32, device);
  row("swish, forward and backward", 5 * bytes, [&] {
    swish(x).backward(dy);
    x.zero_grad();
  });
}
