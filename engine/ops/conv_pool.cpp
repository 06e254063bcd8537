#include <algorithm>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "engine/ops/shapes.h"
#include "kernels/without.h"

namespace cairn {
namespace {

using kernels::ConstView;
using kernels::View;
using kernels::Write;

constexpr const char* kOp = "conv2d_relu_max_pool2d";

/// Images [begin, begin + count) of v.
template <class V>
V images(V v, std::int64_t begin, std::int64_t count) {
  using Byte = std::conditional_t<std::is_same_v<V, View>, std::byte, const std::byte>;
  if (!v || v.shape[0] == 0) return v;
  const auto each = static_cast<std::size_t>(v.numel() / v.shape[0]) * size_of(v.dtype);
  v.data = static_cast<Byte*>(v.data) + static_cast<std::size_t>(begin) * each;
  v.shape[0] = count;
  return v;
}

/// Calls f(begin, count) for the parts of a batch of which `one` is what an image's convolution makes.
template <class F>
void for_each_part(Device device, std::int64_t n, const Shape& one, DType dtype, F&& f) {
  const std::size_t bytes = static_cast<std::size_t>(one.numel()) * size_of(dtype);
  const std::size_t most = kernels::device_api(device.type)->part_bytes;
  if (most == 0 || n == 0 || bytes == 0) return f(0, n);
  const std::int64_t at_once = std::clamp<std::int64_t>(static_cast<std::int64_t>(most / bytes), 1, n);
  for (std::int64_t begin = 0; begin < n; begin += at_once) f(begin, std::min(at_once, n - begin));
}

Shape with_images(Shape s, std::int64_t n) {
  s[0] = n;
  return s;
}

}  // namespace

// y = max over the window of max(0, conv(x, w) + bias). Saves x, w and the winner's place in its window, a
// byte each, kNoWinner where the ReLU cuts off; the convolution's result is gone when the call returns.
Tensor conv2d_relu_max_pool2d(const Tensor& x, const Tensor& w, const Tensor& bias,
                              const Conv2dGeometry& geometry, const Pool2dGeometry& pool) {
  static const bool by_parts = !kernels::without("conv-pool");
  if (!by_parts) return max_pool2d(conv2d(x, w, bias, geometry, Activation::relu), pool);
  const Shape conv = ops::conv2d_shape(kOp, x, w, bias, geometry);
  const Shape shape = ops::pool2d_shape(kOp, conv, pool);
  ops::require(pool.kernel_h * pool.kernel_w < 256, kOp, "a window of 256 elements or more");
  const bool recorded = wants_grad({&x, &w, &bias});
  Tensor y = empty(shape, x.dtype(), x.device());
  Tensor index = recorded ? empty(shape, DType::u8, x.device()) : Tensor();
  for_each_part(
      x.device(), shape[0], with_images(conv, 1), x.dtype(), [&](std::int64_t begin, std::int64_t n) {
        const Tensor made = empty(with_images(conv, n), x.dtype(), x.device());
        call(kernels::conv2d_forward, x.queue(),
             {.x = images(x.view(), begin, n),
              .w = w.view(),
              .bias = bias.view(),
              .residual = {},
              .y = made.out(),
              .geometry = geometry,
              .activation = Activation::relu});
        call(kernels::max_pool2d_forward, x.queue(),
             {made.view(), images(y.out(), begin, n), images(index.out(), begin, n), pool, Activation::relu});
      });
  return record(kOp, y, {x, w, bias}, [x = Saved(x), w = Saved(w), index, conv, geometry, pool](Grads& g) {
    const kernels::Queue& queue = g.output_tensor().queue();
    const auto dx = g.wants(0);
    const auto dw = g.wants(1);
    const auto dbias = g.wants(2);
    // The kernel makes both in one pass; a frozen weight with a trained bias still needs somewhere to land.
    Tensor unwanted = dbias && !dw ? empty_like(w.tensor()) : Tensor();
    const Device device = index.device();
    const DType dtype = g.output().dtype;
    for_each_part(device, conv[0], with_images(conv, 1), dtype, [&](std::int64_t begin, std::int64_t n) {
      const Tensor dmade = empty(with_images(conv, n), dtype, device);
      call(kernels::max_pool2d_backward, queue,
           {images(g.output(), begin, n), images(index.view(), begin, n), dmade.out(), pool});
      if (dx)
        call(kernels::conv2d_backward_data, queue,
             {.dy = dmade.view(),
              .w = w.view(),
              .dx = images(dx->view, begin, n),
              .geometry = geometry,
              .write = dx->write});
      if (!dw && !dbias) return;
      const auto after_first = [&](Write first) { return begin == 0 ? first : Write::add; };
      call(kernels::conv2d_backward_weight, queue,
           {.x = images(x.view(), begin, n),
            .dy = dmade.view(),
            .dw = dw ? dw->view : unwanted.out(),
            .dbias = dbias ? dbias->view : View{},
            .geometry = geometry,
            .write = after_first(dw ? dw->write : Write::assign),
            .dbias_write = after_first(dbias ? dbias->write : Write::assign)});
    });
  });
}

}  // namespace cairn
