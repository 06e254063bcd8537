#pragma once
#include <cstdint>

#include "kernels/conv.h"
#include "kernels/cpu/parallel.h"

/// Convolution as its formula reads, in any element type T that has + and *: the kernels of fp64, and a
/// second opinion on the fast ones. Parallel over what is written, so that nothing is summed across threads.
namespace cairn::kernels::plain {

/// Input row (or column) that output row `o` meets at filter row `f`; may lie outside.
inline std::int64_t input_at(std::int64_t o, std::int64_t f, int stride, int padding, int dilation) {
  return o * stride - padding + f * dilation;
}
/// Output row whose filter row `f` meets input row `i`, or -1.
inline std::int64_t output_at(std::int64_t i, std::int64_t f, int stride, int padding, int dilation,
                              std::int64_t outputs) {
  const std::int64_t o = i + padding - f * dilation;
  return o >= 0 && o % stride == 0 && o / stride < outputs ? o / stride : -1;
}

template <class T>
void conv2d_forward(const Conv2dForward& a) {
  const Shape &x = a.x.shape, &w = a.w.shape, &y = a.y.shape;
  const Conv2dGeometry& g = a.geometry;
  const std::int64_t group_k = w[0] / g.groups, group_c = w[3];
  parallel_for(y[0] * y[1], 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / y[1], p = row % y[1];
      for (std::int64_t q = 0; q < y[2]; ++q) {
        for (std::int64_t k = 0; k < y[3]; ++k) {
          T sum = a.bias ? a.bias.as<T>()[k] : T(0);
          for (std::int64_t r = 0; r < w[1]; ++r) {
            const std::int64_t h = input_at(p, r, g.stride_h, g.padding_h, g.dilation_h);
            if (h < 0 || h >= x[1]) continue;
            for (std::int64_t s = 0; s < w[2]; ++s) {
              const std::int64_t v = input_at(q, s, g.stride_w, g.padding_w, g.dilation_w);
              if (v < 0 || v >= x[2]) continue;
              const T* px = a.x.as<T>() + ((n * x[1] + h) * x[2] + v) * x[3] + k / group_k * group_c;
              const T* pw = a.w.as<T>() + ((k * w[1] + r) * w[2] + s) * group_c;
              for (std::int64_t c = 0; c < group_c; ++c) sum += px[c] * pw[c];
            }
          }
          const std::int64_t i = (row * y[2] + q) * y[3] + k;
          if (a.residual) sum += a.residual.as<T>()[i];
          if (a.activation == Activation::relu && sum < T(0)) sum = T(0);
          a.y.as<T>()[i] = sum;
        }
      }
    }
  });
}

template <class T>
void conv2d_backward_data(const Conv2dBackwardData& a) {
  const Shape &x = a.dx.shape, &w = a.w.shape, &y = a.dy.shape;
  const Conv2dGeometry& g = a.geometry;
  const std::int64_t group_k = w[0] / g.groups, group_c = w[3];
  parallel_for(x[0] * x[1], 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / x[1], h = row % x[1];
      for (std::int64_t v = 0; v < x[2]; ++v) {
        for (std::int64_t c = 0; c < x[3]; ++c) {
          const std::int64_t first_k = c / group_c * group_k;
          T sum = 0;
          for (std::int64_t r = 0; r < w[1]; ++r) {
            const std::int64_t p = output_at(h, r, g.stride_h, g.padding_h, g.dilation_h, y[1]);
            if (p < 0) continue;
            for (std::int64_t s = 0; s < w[2]; ++s) {
              const std::int64_t q = output_at(v, s, g.stride_w, g.padding_w, g.dilation_w, y[2]);
              if (q < 0) continue;
              const T* dy = a.dy.as<T>() + ((n * y[1] + p) * y[2] + q) * y[3];
              for (std::int64_t k = first_k; k < first_k + group_k; ++k)
                sum += dy[k] * a.w.as<T>()[((k * w[1] + r) * w[2] + s) * group_c + c % group_c];
            }
          }
          T& out = a.dx.as<T>()[(row * x[2] + v) * x[3] + c];
          out = a.write == Write::add ? out + sum : sum;
        }
      }
    }
  });
}

template <class T>
void conv2d_backward_weight(const Conv2dBackwardWeight& a) {
  const Shape &x = a.x.shape, &w = a.dw.shape, &y = a.dy.shape;
  const Conv2dGeometry& g = a.geometry;
  const std::int64_t group_k = w[0] / g.groups, group_c = w[3];
  parallel_for(w[0], 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t k = begin; k < end; ++k) {
      T bias_sum = 0;
      for (std::int64_t i = k; i < a.dy.numel(); i += y[3]) bias_sum += a.dy.as<T>()[i];
      if (a.dbias) {
        T& out = a.dbias.as<T>()[k];
        out = a.dbias_write == Write::add ? out + bias_sum : bias_sum;
      }
      for (std::int64_t i = 0; i < w[1] * w[2] * group_c; ++i) {
        const std::int64_t r = i / (w[2] * group_c), s = i / group_c % w[2];
        const std::int64_t c = k / group_k * group_c + i % group_c;
        T sum = 0;
        for (std::int64_t row = 0; row < y[0] * y[1]; ++row) {
          const std::int64_t h = input_at(row % y[1], r, g.stride_h, g.padding_h, g.dilation_h);
          if (h < 0 || h >= x[1]) continue;
          for (std::int64_t q = 0; q < y[2]; ++q) {
            const std::int64_t v = input_at(q, s, g.stride_w, g.padding_w, g.dilation_w);
            if (v < 0 || v >= x[2]) continue;
            sum += a.dy.as<T>()[(row * y[2] + q) * y[3] + k] *
                   a.x.as<T>()[((row / y[1] * x[1] + h) * x[2] + v) * x[3] + c];
          }
        }
        T& out = a.dw.as<T>()[k * w[1] * w[2] * group_c + i];
        out = a.write == Write::add ? out + sum : sum;
      }
    }
  });
}

}  // namespace cairn::kernels::plain
