// Matrix products of kernels/gemm.h by our own tiled kernel: what runs without cuBLASLt, and a second opinion
// on it. y(m,n) = sum_k a(m,k) b(k,n), in fp32 (double for double), in the order of k.
// Bytes: with 64x64 tiles a is read N/64 times, b M/64 times, y written once. Limited by the arithmetic of
// the ordinary cores: no tensor cores, so some ten times below what cuBLASLt reaches in 16-bit types.
#include "kernels/gemm.h"

#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/device/tile_product.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

// A row-major matrix or its transpose, of activations (T) or parameters.
template <class T, bool kParameter>
struct Factor {
  using Element = std::conditional_t<kParameter, Compute<T>, T>;
  const Element* data;
  int64_t batch, outer, depth;  // strides in elements
  bool along_depth;

  __device__ Compute<T> at(int64_t z, int64_t o, int64_t k) const {
    const int64_t i = z * batch + o * outer + k * depth;
    if constexpr (kParameter)
      return parameter<T>(data, i);
    else
      return element<T>(data, i);
  }
};
template <class T, bool kParameter = false>
struct Left : Factor<T, kParameter> {
  __device__ Compute<T> operator()(int64_t z, int64_t m, int64_t k) const { return this->at(z, m, k); }
};
template <class T, bool kParameter = false>
struct Right : Factor<T, kParameter> {
  __device__ Compute<T> operator()(int64_t z, int64_t k, int64_t n) const { return this->at(z, n, k); }
};

// y [batch,m,n] of Out.
template <class Out>
struct LandMatrix {
  Out* y;
  int64_t batch, columns;
  Write write;
  const Compute<Out>* bias;  // [n] or null
  Activation activation;
  __device__ void operator()(int64_t z, int64_t m, int64_t n, Compute<Out> sum) const {
    if (bias) sum += bias[n];
    if (activation == Activation::relu && sum < 0) sum = 0;
    Out& out = y[z * batch + m * columns + n];
    out = from_float<Out>(write == Write::add ? to_float(out) + sum : sum);
  }
};

Status linear_forward_cuda(const Queue& q, const LinearForward& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const int64_t n = a.x.shape[0], c = a.x.shape[1], k = a.w.shape[0];
    return launch_tile_product<C>(
        stream_of(q), {n, k, c, 1}, Left<T>{{a.x.as<T>(), 0, c, 1, true}},
        Right<T, true>{{a.w.as<C>(), 0, c, 1, true}},
        LandMatrix<T>{a.y.as<T>(), 0, k, Write::assign, a.bias.as<C>(), a.activation});
  });
}

Status linear_backward_data_cuda(const Queue& q, const LinearBackwardData& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const int64_t n = a.dy.shape[0], k = a.w.shape[0], c = a.w.shape[1];
    return launch_tile_product<C>(stream_of(q), {n, c, k, 1}, Left<T>{{a.dy.as<T>(), 0, k, 1, true}},
                                  Right<T, true>{{a.w.as<C>(), 0, 1, c, false}},
                                  LandMatrix<T>{a.dx.as<T>(), 0, c, a.write, nullptr, Activation::none});
  });
}

ColumnSums bias_sums(const LinearBackwardWeight& a) {
  return {a.dy, a.dbias, a.dbias_write, a.scratch, a.scratch_bytes};
}
std::size_t linear_backward_weight_workspace(const Queue& q, const LinearBackwardWeight& a) {
  return a.dbias ? column_sums.workspace(q, bias_sums(a)) : 0;
}
Status linear_backward_weight_cuda(const Queue& q, const LinearBackwardWeight& a) {
  Status product = with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const int64_t n = a.x.shape[0], c = a.x.shape[1], k = a.dw.shape[0];
    return launch_tile_product<C>(stream_of(q), {k, c, n, 1}, Left<T>{{a.dy.as<T>(), 0, 1, k, false}},
                                  Right<T>{{a.x.as<T>(), 0, 1, c, false}},
                                  LandMatrix<C>{a.dw.as<C>(), 0, c, a.write, nullptr, Activation::none});
  });
  if (!product.ok() || !a.dbias) return product;
  return column_sums(q, bias_sums(a));
}

Status matmul_cuda(const Queue& q, const Matmul& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    const int64_t m = a.y.shape[1], n = a.y.shape[2], k = a.a.shape[a.transpose_a ? 1 : 2];
    const auto batch = [](const ConstView& v, int64_t elements) { return v.shape[0] == 1 ? 0 : elements; };
    return launch_tile_product<Compute<T>>(
        stream_of(q), {m, n, k, a.y.shape[0]},
        Left<T>{
            {a.a.as<T>(), batch(a.a, m * k), a.transpose_a ? 1 : k, a.transpose_a ? m : 1, !a.transpose_a}},
        Right<T>{
            {a.b.as<T>(), batch(a.b, k * n), a.transpose_b ? k : 1, a.transpose_b ? 1 : n, a.transpose_b}},
        LandMatrix<T>{a.y.as<T>(), m * n, n, a.write, nullptr, Activation::none});
  });
}

const FillCuda kForward{linear_forward, &linear_forward_cuda};
const FillCuda kBackwardData{linear_backward_data, &linear_backward_data_cuda};
const FillCuda kBackwardWeight{linear_backward_weight, &linear_backward_weight_cuda,
                               &linear_backward_weight_workspace};
const FillCuda kMatmul{matmul, &matmul_cuda};

}  // namespace
}  // namespace cairn::kernels
