// Convolutions, forward: the engine's (oneDNN's fastest implementation that is accurate enough, Winograd
// among them) beside oneDNN's direct one on the same channels-last tensors with its own weights' layout, and
// the loop of the definition.
#include "kernels/conv.h"

#include "bench/kernels/bench.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Conv {
  std::int64_t size, in, out;
  int kernel, stride;
};

void plain_conv(const float* x, const float* w, float* y, const Shape& xs, const Shape& ws, const Shape& ys,
                const Conv2dGeometry& g) {
  for (std::int64_t n = 0, o = 0; n < ys[0]; ++n)
    for (std::int64_t p = 0; p < ys[1]; ++p)
      for (std::int64_t q = 0; q < ys[2]; ++q)
        for (std::int64_t k = 0; k < ys[3]; ++k, ++o) {
          float sum = 0;
          for (std::int64_t r = 0; r < ws[1]; ++r)
            for (std::int64_t s = 0; s < ws[2]; ++s) {
              const std::int64_t h = p * g.stride_h - g.padding_h + r, v = q * g.stride_w - g.padding_w + s;
              if (h < 0 || h >= xs[1] || v < 0 || v >= xs[2]) continue;
              const float* from = x + ((n * xs[1] + h) * xs[2] + v) * xs[3];
              const float* filter = w + ((k * ws[1] + r) * ws[2] + s) * ws[3];
              for (std::int64_t c = 0; c < xs[3]; ++c) sum += from[c] * filter[c];
            }
          y[o] = sum;
        }
}

void add(std::int64_t batch, const Conv& conv, DType t, bool with_plain) {
  const int pad = conv.kernel / 2;
  const Conv2dGeometry g{
      .stride_h = conv.stride, .stride_w = conv.stride, .padding_h = pad, .padding_w = pad};
  const std::int64_t out = (conv.size + 2 * pad - conv.kernel) / conv.stride + 1;
  const Shape x{batch, conv.size, conv.size, conv.in}, y{batch, out, out, conv.out},
      w{conv.out, conv.kernel, conv.kernel, conv.in};
  struct Tensors {
    Tensors(DType type, const Shape& xs, const Shape& ws, const Shape& ys)
        : x(type, xs, 1), w(DType::f32, ws, 2), y(type, ys), other(type, ys) {}
    Buffer x, w, y, other;
  };
  const auto k = std::make_shared<Tensors>(t, x, w, y);
  const Job ours = cairn_job(
      conv2d_forward,
      Conv2dForward{
          .x = k->x.view(), .w = k->w.view(), .bias = {}, .residual = {}, .y = k->y.view(), .geometry = g});
  using dnnl::memory;
  const auto nhwc = [&](const Shape& s) {
    return memory::desc({s[0], s[3], s[1], s[2]}, onednn::type_of(t), memory::format_tag::nhwc);
  };
  const memory::dims filter{w[0], w[3], w[1], w[2]};
  const memory::dims stride{conv.stride, conv.stride}, padding{pad, pad};
  const auto pd = onednn::describe<dnnl::convolution_forward>(
      {}, dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, nhwc(x),
      onednn::any_layout(filter, t), nhwc(y), stride, padding, padding);
  memory weights(pd.weights_desc(), onednn::engine());
  memory given =
      onednn::wrap(memory::desc(filter, memory::data_type::f32, memory::format_tag::ohwi), k->w.data());
  dnnl::reorder(given, weights).execute(onednn::stream(), given, weights);
  onednn::stream().wait();
  const Job theirs =
      onednn_job(dnnl::convolution_forward(pd), {{DNNL_ARG_SRC, onednn::wrap(nhwc(x), k->x.data())},
                                                 {DNNL_ARG_WEIGHTS, weights},
                                                 {DNNL_ARG_DST, onednn::wrap(nhwc(y), k->other.data())}});
  // Sums of kernel^2 * in products of values around 0.3, by another algorithm.
  const float tolerance = t == DType::bf16 ? 0x1p-4f : 1e-3f;
  const std::string op = "conv" + std::to_string(conv.kernel) + "x" + std::to_string(conv.kernel) + "s" +
                         std::to_string(conv.stride) + "k" + std::to_string(conv.out) + "_forward";
  require_equal(op, ours, k->y, theirs, k->other, tolerance);
  const double bytes = static_cast<double>(k->x.bytes() + k->y.bytes() + k->w.bytes());
  add_row(row_name(op, x, t) + "cairn", ours, k, bytes);
  add_row(row_name(op, x, t) + "oneDNN", theirs, k, bytes);
  if (!with_plain) return;
  const Job plain = [=] {
    plain_conv(k->x.view().as<float>(), k->w.view().as<float>(), k->other.view().as<float>(), x, w, y, g);
  };
  require_equal(op, ours, k->y, plain, k->other, tolerance);
  add_row(row_name(op, x, t) + "plain", plain, k, bytes);
}

}  // namespace

void register_conv() {
  // A convolution of each of ResNet-18's stages and a shortcut. The plain loop takes seconds: at the smallest
  // alone.
  for (const DType t : {DType::f32, DType::bf16}) {
    for (const Conv& conv : {Conv{56, 64, 64, 3, 1}, Conv{28, 128, 128, 3, 1}, Conv{14, 256, 256, 3, 1},
                             Conv{7, 512, 512, 3, 1}, Conv{56, 64, 128, 1, 2}})
      add(32, conv, t, false);
    add(2, {7, 512, 512, 3, 1}, t, t == DType::f32);
  }
}

}  // namespace cairn::bench
