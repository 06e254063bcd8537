// Softmax cross-entropy with its gradient, and softmax; kernels/loss.h has the equations.
//   p = softmax(z); l = - sum_c t_c w_c log p_c; dl/dz_k = (p_k sum_c t_c w_c - t_k w_k) / total weight
// Bytes: logits once from memory (three passes, the later ones from the caches), dlogits once. Limited by
// latency: classes are few. One warp a row up to 1024 classes, one block a row beyond. What is one number a
// row is computed in double, as on the CPU; exponentials in float. Fixed order of every sum.
#include "kernels/loss.h"

#include <cmath>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

// The threads of a row: a warp, or a block.
struct WarpRow {
  static constexpr int kThreads = 32;
  __device__ static int thread() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int64_t first_row() { return grid_start() / 32; }
  __device__ static int64_t row_step() { return grid_stride() / 32; }
  template <class Op, class V>
  __device__ static V reduce(V v, V, V*) {
    return warp_reduce<Op>(v);
  }
};
struct BlockRow {
  static constexpr int kThreads = kBlock;
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int64_t first_row() { return blockIdx.x; }
  __device__ static int64_t row_step() { return gridDim.x; }
  template <class Op, class V>
  __device__ static V reduce(V v, V identity, V* scratch) {
    return block_reduce<Op>(v, identity, scratch);
  }
};
constexpr int64_t kMostWarpClasses = 1024;  // 32 a lane
unsigned row_blocks(int64_t rows, int64_t classes) {
  return classes <= kMostWarpClasses ? grid_for(rows * 32) : grid_for(rows, 1);
}

// The largest of the row, NaN first, and the sum of exp(z - max), in every thread of it.
template <class Row, class T>
__device__ __forceinline__ void row_max_and_sum(const T* z, int64_t classes, Compute<T>* scratch,
                                                double* scratch_sum, Compute<T>& max, double& sum) {
  using C = Compute<T>;
  const C lowest = -static_cast<C>(INFINITY);
  C m = lowest;
  for (int64_t c = Row::thread(); c < classes; c += Row::kThreads) m = Max{}(m, to_float(z[c]));
  max = Row::template reduce<Max>(m, lowest, scratch);
  C s = 0;
  for (int64_t c = Row::thread(); c < classes; c += Row::kThreads) s += std::exp(to_float(z[c]) - max);
  sum = Row::template reduce<Sum>(static_cast<double>(s), 0.0, scratch_sum);
}

// y[n][c] = exp(x - max) / sum
template <class Row, class T>
__global__ void __launch_bounds__(kBlock)
    softmax_kernel(const T* x, Compute<T>* y, int64_t rows, int64_t classes) {
  using C = Compute<T>;
  __shared__ C scratch[32];
  __shared__ double scratch_sum[32];
  for (int64_t n = Row::first_row(); n < rows; n += Row::row_step()) {
    C max;
    double sum;
    row_max_and_sum<Row>(x + n * classes, classes, scratch, scratch_sum, max, sum);
    const C inverse = static_cast<C>(1.0 / sum);
    for (int64_t c = Row::thread(); c < classes; c += Row::kThreads)
      y[n * classes + c] = inverse * std::exp(to_float(x[n * classes + c]) - max);
  }
}

template <class T>
struct Problem {
  using C = Compute<T>;
  const T* logits;         // [N,C]
  const int32_t* labels;   // [N]
  const int32_t* labels2;  // [N] or null
  const float* lambda;     // [N] with labels2
  const C* weights;        // [C] or null
  C* loss;                 // [1]
  C* per_image;            // [N] or null
  C* dlogits;              // [N,C] or null
  double* row_loss;        // [N], scratch
  double* total_weight;    // [1], scratch; written with weights only
  int64_t rows, classes;
  double smoothing, each;  // label smoothing, and a class' share of it
  double gamma;
};

// One image's targets: up to two labels with their shares, which sum to 1.
struct Target {
  int32_t label[2];
  double share[2];
};
template <class T>
__device__ __forceinline__ Target target_of(const Problem<T>& p, int64_t n) {
  const int32_t first = p.labels[n];
  if (!p.labels2) return {{first, first}, {1.0, 0.0}};
  const double lambda = static_cast<double>(p.lambda[n]);
  return {{first, p.labels2[n]}, {lambda, 1.0 - lambda}};
}
template <class T>
__device__ __forceinline__ double weight_of(const Problem<T>& p, int64_t c) {
  return p.weights ? static_cast<double>(p.weights[c]) : 1.0;
}

// total_weight = sum_n w_label(n); one block.
template <class T>
__global__ void __launch_bounds__(kBlock) total_weight_kernel(Problem<T> p) {
  __shared__ double scratch[32];
  double total = 0;
  for (int64_t n = threadIdx.x; n < p.rows; n += kBlock) {
    const Target t = target_of(p, n);
    total += t.share[0] * weight_of(p, t.label[0]) + t.share[1] * weight_of(p, t.label[1]);
  }
  total = block_reduce<Sum>(total, 0.0, scratch);
  if (threadIdx.x == 0) *p.total_weight = total;
}

// kFocal: gamma > 0, which goes with one label an image and without smoothing. In one kernel with the common
// case its logarithms would make that spill; told of one block a multiprocessor, ptxas spills nothing.
template <class Row, bool kFocal, class T>
__global__ void __launch_bounds__(kBlock, 1) cross_entropy_kernel(Problem<T> p) {
  using C = Compute<T>;
  constexpr int kLabels = kFocal ? 1 : 2;
  __shared__ C scratch[32];
  __shared__ double scratch_sum[32];
  const double per_weight = 1.0 / (p.weights ? *p.total_weight : static_cast<double>(p.rows));
  for (int64_t n = Row::first_row(); n < p.rows; n += Row::row_step()) {
    const T* z = p.logits + n * p.classes;
    C max;
    double sum;
    row_max_and_sum<Row>(z, p.classes, scratch, scratch_sum, max, sum);
    const double log_sum = std::log(sum);
    const auto log_p = [&](int64_t c) {
      return static_cast<double>(to_float(z[c])) - static_cast<double>(max) - log_sum;
    };
    const Target target = target_of(p, n);

    double scale = per_weight, power = 1;
    if constexpr (kFocal) {
      // l = w (1-q)^g (-log q), q = p_label: dl/dz_k = w ((1-q)^g - g (1-q)^(g-1) q log q) (p_k - [k =
      // label]). log q / (1-q) tends to -1 at q = 1. The power by exp and log: pow is a call around which
      // registers spill.
      const double log_q = log_p(target.label[0]), rest = -std::expm1(log_q);
      const double ratio = rest < 1e-8 ? -1.0 : log_q / rest;
      power = std::exp(p.gamma * std::log(rest));
      scale *= power - p.gamma * power * std::exp(log_q) * ratio;
    }
    double loss = 0, mass = 0;  // mass = sum_c t_c w_c
    for (int k = 0; k < kLabels; ++k) {
      if (target.share[k] == 0.0) continue;
      const double tw = (1.0 - p.smoothing) * target.share[k] * weight_of(p, target.label[k]);
      loss -= tw * log_p(target.label[k]);
      mass += tw;
    }
    if (!kFocal && p.smoothing > 0.0) {
      double uniform = 0, uniform_mass = 0;
      for (int64_t c = Row::thread(); c < p.classes; c += Row::kThreads) {
        uniform -= weight_of(p, c) * log_p(c);
        uniform_mass += weight_of(p, c);
      }
      loss += p.each * Row::template reduce<Sum>(uniform, 0.0, scratch_sum);
      mass += p.each * Row::template reduce<Sum>(uniform_mass, 0.0, scratch_sum);
    }

    if constexpr (kFocal) loss *= power;
    if (Row::thread() == 0) {
      p.row_loss[n] = loss;
      if (p.per_image) p.per_image[n] = static_cast<C>(loss);
    }
    if (!p.dlogits) continue;

    C* dz = p.dlogits + n * p.classes;
    const C factor = static_cast<C>(scale * mass / sum);
    const C spread = static_cast<C>(scale * p.each);
    for (int64_t c = Row::thread(); c < p.classes; c += Row::kThreads) {
      C g = factor * std::exp(to_float(z[c]) - max);
      if (!kFocal && spread > C(0)) g -= spread * (p.weights ? p.weights[c] : C(1));
      for (int k = 0; k < kLabels; ++k)
        if (c == target.label[k] && target.share[k] != 0.0)
          g -= static_cast<C>(scale * (1.0 - p.smoothing) * target.share[k] * weight_of(p, c));
      dz[c] = g;
    }
  }
}

// loss = sum_n l_n / total weight; one block.
template <class T>
__global__ void __launch_bounds__(kBlock) mean_loss_kernel(Problem<T> p) {
  __shared__ double scratch[32];
  double total = 0;
  for (int64_t n = threadIdx.x; n < p.rows; n += kBlock) total += p.row_loss[n];
  total = block_reduce<Sum>(total, 0.0, scratch);
  if (threadIdx.x == 0)
    p.loss[0] = static_cast<Compute<T>>(total / (p.weights ? *p.total_weight : static_cast<double>(p.rows)));
}

Status softmax_cuda(const Queue& q, const Softmax& args) {
  if (args.x.numel() == 0) return {};
  const int64_t classes = args.x.shape[args.x.shape.rank - 1], rows = args.x.numel() / classes;
  return with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) {
    return launch(classes <= kMostWarpClasses ? softmax_kernel<WarpRow, T> : softmax_kernel<BlockRow, T>,
                  dim3(row_blocks(rows, classes)), dim3(kBlock), 0, stream_of(q), args.x.as<T>(),
                  args.y.as<Compute<T>>(), rows, classes);
  });
}

Status softmax_cross_entropy_cuda(const Queue& q, const SoftmaxCrossEntropy& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) -> Status {
    using C = Compute<T>;
    const int64_t rows = a.logits.shape[0], classes = a.logits.shape[1];
    auto* const scratch = static_cast<double*>(a.scratch);  // [N], [1]
    const Problem<T> p{a.logits.as<T>(),
                       a.labels.as<int32_t>(),
                       a.labels2.as<int32_t>(),
                       a.lambda.as<float>(),
                       a.class_weights.as<C>(),
                       a.loss.as<C>(),
                       a.per_image.as<C>(),
                       a.dlogits.as<C>(),
                       scratch,
                       scratch + rows,
                       rows,
                       classes,
                       static_cast<double>(a.label_smoothing),
                       static_cast<double>(a.label_smoothing) / static_cast<double>(classes),
                       static_cast<double>(a.focal_gamma)};
    if (p.weights)
      if (Status s = launch(total_weight_kernel<T>, dim3(1), dim3(kBlock), 0, stream_of(q), p); !s.ok())
        return s;
    const bool warps = classes <= kMostWarpClasses;
    auto* const kernel =
        p.gamma > 0
            ? (warps ? cross_entropy_kernel<WarpRow, true, T> : cross_entropy_kernel<BlockRow, true, T>)
            : (warps ? cross_entropy_kernel<WarpRow, false, T> : cross_entropy_kernel<BlockRow, false, T>);
    if (Status s = launch(kernel, dim3(row_blocks(rows, classes)), dim3(kBlock), 0, stream_of(q), p); !s.ok())
      return s;
    return launch(mean_loss_kernel<T>, dim3(1), dim3(kBlock), 0, stream_of(q), p);
  });
}

std::size_t loss_scratch(const Queue&, const SoftmaxCrossEntropy& args) {
  return static_cast<std::size_t>(args.logits.shape[0] + 1) * sizeof(double);
}

const FillCuda kSoftmax{softmax, &softmax_cuda};
const FillCuda kSoftmaxCrossEntropy{softmax_cross_entropy, &softmax_cross_entropy_cuda, &loss_scratch};

}  // namespace
}  // namespace cairn::kernels
