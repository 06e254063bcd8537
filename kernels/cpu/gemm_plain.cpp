#include "kernels/gemm.h"

#if defined(CAIRN_KERNELS_F64)  // gemm.cpp serves the other dtypes through oneDNN, which has no double

#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"

// Matrix products in double, as their formulas read.

namespace cairn::kernels {
namespace {

/// A row-major matrix, or its transpose, by strides.
struct Matrix {
  const double* data;
  std::int64_t row, column;
  double at(std::int64_t i, std::int64_t j) const { return data[i * row + j * column]; }
};
Matrix matrix(const double* data, std::int64_t columns, bool transposed) {
  return transposed ? Matrix{data, 1, columns} : Matrix{data, columns, 1};
}

/// y [m,n] = act(a [m,k] b [k,n] + bias [n])
void multiply(const Matrix& a, const Matrix& b, double* y, std::int64_t m, std::int64_t n, std::int64_t k,
              Write write, const double* bias = nullptr, Activation activation = Activation::none) {
  parallel_for(m, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = bias ? bias[j] : 0.0;
        for (std::int64_t l = 0; l < k; ++l) sum += a.at(i, l) * b.at(l, j);
        if (activation == Activation::relu && sum < 0) sum = 0;
        y[i * n + j] = write == Write::add ? y[i * n + j] + sum : sum;
      }
    }
  });
}

Status linear_forward_f64(const Queue&, const LinearForward& a) {
  const std::int64_t n = a.x.shape[0], c = a.x.shape[1], k = a.w.shape[0];
  multiply(matrix(a.x.as<double>(), c, false), matrix(a.w.as<double>(), c, true), a.y.as<double>(), n, k, c,
           Write::assign, a.bias.as<double>(), a.activation);
  return {};
}

Status linear_backward_data_f64(const Queue&, const LinearBackwardData& a) {
  const std::int64_t n = a.dy.shape[0], k = a.w.shape[0], c = a.w.shape[1];
  multiply(matrix(a.dy.as<double>(), k, false), matrix(a.w.as<double>(), c, false), a.dx.as<double>(), n, c,
           k, a.write);
  return {};
}

Status linear_backward_weight_f64(const Queue&, const LinearBackwardWeight& a) {
  const std::int64_t n = a.x.shape[0], c = a.x.shape[1], k = a.dw.shape[0];
  const Matrix dy_t = matrix(a.dy.as<double>(), k, true);
  multiply(dy_t, matrix(a.x.as<double>(), c, false), a.dw.as<double>(), k, c, n, a.write);
  const double one = 1.0;
  if (a.dbias) multiply(dy_t, {&one, 0, 0}, a.dbias.as<double>(), k, 1, n, a.dbias_write);
  return {};
}

Status matmul_f64(const Queue&, const Matmul& a) {
  const std::int64_t batch = a.y.shape[0], m = a.y.shape[1], n = a.y.shape[2];
  const std::int64_t k = a.a.shape[a.transpose_a ? 1 : 2];
  for (std::int64_t i = 0; i < batch; ++i) {
    const double* left = a.a.as<double>() + (a.a.shape[0] == 1 ? 0 : i * m * k);
    const double* right = a.b.as<double>() + (a.b.shape[0] == 1 ? 0 : i * k * n);
    multiply(matrix(left, a.transpose_a ? m : k, a.transpose_a),
             matrix(right, a.transpose_b ? k : n, a.transpose_b), a.y.as<double>() + i * m * n, m, n, k,
             a.write);
  }
  return {};
}

const FillCpu kFillForward{linear_forward, &linear_forward_f64};
const FillCpu kFillBackwardData{linear_backward_data, &linear_backward_data_f64};
const FillCpu kFillBackwardWeight{linear_backward_weight, &linear_backward_weight_f64};
const FillCpu kFillMatmul{matmul, &matmul_f64};

}  // namespace
}  // namespace cairn::kernels

#endif
