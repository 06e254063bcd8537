// Convolutions and matrix products: cuDNN and cuBLASLt where they serve the slots, else plain kernels
// (CAIRN_WITHOUT).
#include "bench/device/case.h"
#include "kernels/conv.h"
#include "kernels/gemm.h"

namespace cairn::bench {
namespace {

using namespace kernels;

double bytes_of(std::initializer_list<Shape> shapes, DType t) {
  double elements = 0;
  for (const Shape& s : shapes) elements += static_cast<double>(s.numel());
  return elements * static_cast<double>(size_of(t));
}

struct Conv {
  std::int64_t size, in, out;
  int kernel, stride;
};

void add_conv(std::vector<Case>& cases, std::int64_t batch, const Conv& conv, DType type) {
  const int pad = conv.kernel / 2;
  const Conv2dGeometry g{
      .stride_h = conv.stride, .stride_w = conv.stride, .padding_h = pad, .padding_w = pad};
  const std::int64_t p = (conv.size + 2 * pad - conv.kernel) / conv.stride + 1;
  const Shape x{batch, conv.size, conv.size, conv.in}, y{batch, p, p, conv.out},
      w{conv.out, conv.kernel, conv.kernel, conv.in};
  const double flops = 2.0 * static_cast<double>(y.numel() * conv.kernel * conv.kernel * conv.in);
  const double bytes = bytes_of({x, y, w}, type);
  const std::string name = "conv" + std::to_string(conv.kernel) + "x" + std::to_string(conv.kernel) + "s" +
                           std::to_string(conv.stride) + "k" + std::to_string(conv.out);
  cases.push_back({name + "_forward", x, type, bytes, flops, [=](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(conv2d_forward, {.x = k.in(x),
                                                   .w = k.in(w, DType::f32),
                                                   .bias = {},
                                                   .residual = {},
                                                   .y = k.out(y),
                                                   .geometry = g});
                   }});
  cases.push_back({name + "_dgrad", x, type, bytes, flops, [=](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(conv2d_backward_data,
                                  {.dy = k.in(y), .w = k.in(w, DType::f32), .dx = k.out(x), .geometry = g});
                   }});
  cases.push_back(
      {name + "_wgrad", x, type, bytes, flops, [=](Device d, DType t) {
         Tensors k(d, t);
         return k.run(conv2d_backward_weight,
                      {.x = k.in(x), .dy = k.in(y), .dw = k.out(w, DType::f32), .dbias = {}, .geometry = g});
       }});
}

void add_linear(std::vector<Case>& cases, std::int64_t n, std::int64_t c, std::int64_t k_out, DType type) {
  const Shape x{n, c}, w{k_out, c}, y{n, k_out};
  const double flops = 2.0 * static_cast<double>(n * c * k_out);
  const double bytes = bytes_of({x, y, w}, type);
  cases.push_back(
      {"linear" + std::to_string(k_out) + "_forward", x, type, bytes, flops, [=](Device d, DType t) {
         Tensors k(d, t);
         return k.run(linear_forward, {.x = k.in(x), .w = k.in(w, DType::f32), .bias = {}, .y = k.out(y)});
       }});
}

}  // namespace

std::vector<Case> product_cases(std::int64_t batch) {
  std::vector<Case> cases;
  const std::int64_t shrink = batch < 8 ? 4 : 1;  // emulated products are slow
  for (const DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (const Conv& conv : {Conv{56, 64, 64, 3, 1}, Conv{28, 128, 128, 3, 1}, Conv{14, 256, 256, 3, 1},
                             Conv{56, 64, 128, 1, 2}})
      add_conv(cases, batch,
               {conv.size / shrink, conv.in / shrink, conv.out / shrink, conv.kernel, conv.stride}, t);
    add_linear(cases, batch, 4096 / shrink, 512 / shrink, t);
  }
  return cases;
}

}  // namespace cairn::bench
