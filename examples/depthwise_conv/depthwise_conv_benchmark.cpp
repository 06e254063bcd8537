#include <cstdio>

#include "engine/benchmark.h"
#include "engine/ops.h"
#include "kernels/cpu/waiting.h"

namespace cairn {
Tensor depthwise_conv(const Tensor& x, const Tensor& f);  // depthwise_conv.cpp
}
using namespace cairn;

int main(int argc, char** argv) {
  kernels::adopt_short_waits(argv);  // other programs may want the cores
  const Device device = parse_device(argc > 1 ? argv[1] : "auto");
  constexpr int c = 64;
  const Tensor x = full({8, 28, 28, c}, 0.5, DType::f32, device),
               f = full({3, 3, c}, 0.25, DType::f32, device);
  const Tensor grouped = full({c, 3, 3, 1}, 0.25, DType::f32, device);
  const double bytes = 2.0 * static_cast<double>(x.numel()) * 4;
  const auto row = [&](const char* name, auto run) {
    std::printf("%s\n", benchmark(device, run, bytes).line(name).c_str());
  };
  row("depthwise_conv 8x28x28x64, 3x3", [&] { depthwise_conv(x, f); });
  row("conv2d with 64 groups",
      [&] { conv2d(x, grouped, {}, {.padding_h = 1, .padding_w = 1, .groups = c}); });
}
