// Convolution by our own kernel, as a product whose factors are looked up in the images (implicit GEMM); what
// runs where cuDNN is not installed or has no plan, and a second opinion on it. kernels/conv.h has the
// equation.
//   fprop: y(npq, k) = sum_rsc x(npq, rsc) w(rsc, k)
//   dgrad: dx(nhw, c) = sum_rsk dy(nhw, rsk) w(rsk, c)
//   wgrad: dw(k, rsc) = sum_npq dy(k, npq) x(npq, rsc)
// In fp32 (double for double), each sum in the order of its index. Groups are batches.
// Bytes: each tile of 64x64 reads its part of both factors once a step; an image is read R*S times, mostly
// from the caches. Limited by index arithmetic and the ordinary cores; wgrad besides by its few tiles, since
// the sum over pixels is not split: many times slower than cuDNN.
#include "kernels/conv.h"

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/device/tile_product.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

struct Conv {
  Conv(const Shape& x, const Shape& w, const Shape& y, const Conv2dGeometry& geometry)
      : g(geometry),
        height(x[1]),
        width(x[2]),
        channels(x[3]),
        p_count(y[1]),
        q_count(y[2]),
        k_count(y[3]),
        s_count(w[2]),
        images(x[0]),
        filter(w[1] * w[2]),
        group_c(w[3]),
        group_k(w[0] / geometry.groups) {}
  Conv2dGeometry g;
  int64_t height, width, channels;    // of x
  int64_t p_count, q_count, k_count;  // of y
  int64_t s_count;                    // columns of the filter
  int64_t images, filter, group_c, group_k;

  struct Pixel {
    int64_t n, row, column;
  };
  __device__ static Pixel pixel(int64_t i, int64_t rows, int64_t columns) {
    const int64_t line = divide(i, columns), n = divide(line, rows);
    return {n, line - n * rows, i - line * columns};
  }
  /// Where pixel (n,p,q) meets filter place (r,s) in x, or -1 outside the image; in pixels.
  __device__ int64_t input_pixel(const Pixel& out, int64_t rs) const {
    const int64_t r = divide(rs, s_count), s = rs - r * s_count;
    const int64_t h = out.row * g.stride_h - g.padding_h + r * g.dilation_h;
    const int64_t w = out.column * g.stride_w - g.padding_w + s * g.dilation_w;
    if (h < 0 || h >= height || w < 0 || w >= width) return -1;
    return (out.n * height + h) * width + w;
  }
  /// The pixel of y whose filter place (r,s) meets pixel (n,h,w) of x, or -1.
  __device__ int64_t output_pixel(const Pixel& in, int64_t rs) const {
    const int64_t r = divide(rs, s_count), s = rs - r * s_count;
    const int64_t h = in.row + g.padding_h - r * g.dilation_h, w = in.column + g.padding_w - s * g.dilation_w;
    if (h < 0 || w < 0) return -1;
    const int64_t p = divide(h, g.stride_h), q = divide(w, g.stride_w);
    if (p * g.stride_h != h || q * g.stride_w != w) return -1;
    return p < p_count && q < q_count ? (in.n * p_count + p) * q_count + q : -1;
  }
};

// x as [npq, rsc] of a group: fprop's left factor and wgrad's right one.
template <class T>
struct Patches {
  Conv conv;
  const T* x;
  bool along_depth;
  __device__ Compute<T> operator()(int64_t group, int64_t npq, int64_t rsc) const {
    const int64_t rs = divide(rsc, conv.group_c);
    const int64_t in = conv.input_pixel(Conv::pixel(npq, conv.p_count, conv.q_count), rs);
    if (in < 0) return Compute<T>(0);
    return element(x, in * conv.channels + group * conv.group_c + rsc - rs * conv.group_c);
  }
};
// w [k, rsc]
template <class T>
struct ForwardRight {
  Conv conv;
  const Compute<T>* w;
  bool along_depth;
  __device__ Compute<T> operator()(int64_t group, int64_t rsc, int64_t k) const {
    return parameter<T>(w, (group * conv.group_k + k) * conv.filter * conv.group_c + rsc);
  }
};
// dy as [nhw, rsk] of a group.
template <class T>
struct DataLeft {
  Conv conv;
  const T* dy;
  bool along_depth;
  __device__ Compute<T> operator()(int64_t group, int64_t nhw, int64_t rsk) const {
    const int64_t rs = divide(rsk, conv.group_k);
    const int64_t out = conv.output_pixel(Conv::pixel(nhw, conv.height, conv.width), rs);
    if (out < 0) return Compute<T>(0);
    return element(dy, out * conv.k_count + group * conv.group_k + rsk - rs * conv.group_k);
  }
};
// w as [rsk, c]
template <class T>
struct DataRight {
  Conv conv;
  const Compute<T>* w;
  bool along_depth;
  __device__ Compute<T> operator()(int64_t group, int64_t rsk, int64_t c) const {
    const int64_t rs = divide(rsk, conv.group_k), k = group * conv.group_k + rsk - rs * conv.group_k;
    return parameter<T>(w, (k * conv.filter + rs) * conv.group_c + c);
  }
};
// dy as [k, npq]
template <class T>
struct WeightLeft {
  Conv conv;
  const T* dy;
  bool along_depth;
  __device__ Compute<T> operator()(int64_t group, int64_t k, int64_t npq) const {
    return element(dy, npq * conv.k_count + group * conv.group_k + k);
  }
};

// y [npq, K] = act(sum + bias + residual)
template <class T>
struct LandForward {
  Conv conv;
  T* y;
  const Compute<T>* bias;  // [K] or null
  const T* residual;       // as y, or null
  Activation activation;
  __device__ void operator()(int64_t group, int64_t npq, int64_t k, Compute<T> sum) const {
    const int64_t channel = group * conv.group_k + k, i = npq * conv.k_count + channel;
    if (bias) sum += bias[channel];
    if (residual) sum += element(residual, i);
    if (activation == Activation::relu && sum < 0) sum = 0;
    y[i] = from_float<T>(sum);
  }
};
// out [rows, columns] of a group at group * group_stride.
template <class Out>
struct LandGradient {
  Out* out;
  int64_t group_stride, row_stride;
  Write write;
  __device__ void operator()(int64_t group, int64_t row, int64_t column, Compute<Out> sum) const {
    Out& to = out[group * group_stride + row * row_stride + column];
    to = from_float<Out>(write == Write::add ? to_float(to) + sum : sum);
  }
};

Status forward_cuda(const Queue& q, const Conv2dForward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const Conv conv(a.x.shape, a.w.shape, a.y.shape, a.geometry);
    return launch_tile_product<C>(
        stream_of(q),
        {conv.images * conv.p_count * conv.q_count, conv.group_k, conv.filter * conv.group_c,
         a.geometry.groups},
        Patches<T>{conv, a.x.as<T>(), true}, ForwardRight<T>{conv, a.w.as<C>(), true},
        LandForward<T>{conv, a.y.as<T>(), a.bias.as<C>(), a.residual.as<T>(), a.activation});
  });
}

Status backward_data_cuda(const Queue& q, const Conv2dBackwardData& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const Conv conv(a.dx.shape, a.w.shape, a.dy.shape, a.geometry);
    return launch_tile_product<C>(
        stream_of(q),
        {conv.images * conv.height * conv.width, conv.group_c, conv.filter * conv.group_k, a.geometry.groups},
        DataLeft<T>{conv, a.dy.as<T>(), true}, DataRight<T>{conv, a.w.as<C>(), false},
        LandGradient<T>{a.dx.as<T>(), conv.group_c, conv.channels, a.write});
  });
}

ColumnSums bias_sums(const Conv2dBackwardWeight& a) {
  return {a.dy, a.dbias, a.dbias_write, a.scratch, a.scratch_bytes};
}
std::size_t backward_weight_workspace(const Queue& q, const Conv2dBackwardWeight& a) {
  return a.dbias ? column_sums.workspace(q, bias_sums(a)) : 0;
}
Status backward_weight_cuda(const Queue& q, const Conv2dBackwardWeight& a) {
  Status product = with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const Conv conv(a.x.shape, a.dw.shape, a.dy.shape, a.geometry);
    const int64_t columns = conv.filter * conv.group_c;
    return launch_tile_product<C>(
        stream_of(q), {conv.group_k, columns, conv.images * conv.p_count * conv.q_count, a.geometry.groups},
        WeightLeft<T>{conv, a.dy.as<T>(), false}, Patches<T>{conv, a.x.as<T>(), false},
        LandGradient<C>{a.dw.as<C>(), conv.group_k * columns, columns, a.write});
  });
  if (!product.ok() || !a.dbias) return product;
  return column_sums(q, bias_sums(a));
}

const FillCuda kForward{conv2d_forward, &forward_cuda};
const FillCuda kBackwardData{conv2d_backward_data, &backward_data_cuda};
const FillCuda kBackwardWeight{conv2d_backward_weight, &backward_weight_cuda, &backward_weight_workspace};

}  // namespace
}  // namespace cairn::kernels
