// Residual add and layer normalisation over the channels (Ba et al. 2016, eq. 3) in one pass: s = x +
// residual,
//   y = gamma * xh + beta,  xh = (s - mean) * rstd,  rstd = 1 / sqrt(var + eps)     (over C; biased variance)
//   ds = rstd * (g - mean(g) - xh * mean(g * xh)),  g = dy * gamma;   dx = dresidual = ds
//   dgamma = sum of dy * xh,  dbeta = sum of dy                                     (over the rows)
// x, residual, y: [..., C] in the compute dtype; gamma, beta: [C] fp32 (fp64 for fp64 x). Saves x and
// residual; mean and rstd are computed again, which costs no memory traffic, since backward reads the row
// anyway.
#include "kernels/dispatch.h"

namespace cairn::kernels {

struct AddNormForward {
  ConstView x, residual, gamma, beta;
  View y;
  float eps = 1e-5f;
  DType dtype() const { return x.dtype; }
};
struct AddNormBackward {
  ConstView x, residual, gamma, dy;
  View ds;
  Write write = Write::assign;
  float eps = 1e-5f;
  DType dtype() const { return x.dtype; }
};
struct AddNormParameters {
  ConstView x, residual, dy;
  View dgamma, dbeta;  // either may be absent
  Write write_gamma = Write::assign, write_beta = Write::assign;
  float eps = 1e-5f;
  void* scratch = nullptr;  // mean and rstd of each row
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};
inline constinit KernelSlot<AddNormForward> add_norm_forward("add_norm_forward");
inline constinit KernelSlot<AddNormBackward> add_norm_backward("add_norm_backward");
inline constinit KernelSlot<AddNormParameters> add_norm_parameters("add_norm_parameters");

inline std::int64_t channels_of(const ConstView& x) { return x.shape[x.shape.rank - 1]; }
inline std::int64_t rows_of(const ConstView& x) {
  return channels_of(x) == 0 ? 0 : x.numel() / channels_of(x);
}

}  // namespace cairn::kernels

#if defined(CAIRN_DEVICE_PASS)
#include "kernels/cuda/launch.h"

namespace cairn::kernels {
namespace {

constexpr int kWarps = 4;  // rows a block: a warp a row, so that no barrier is needed

// Sum over the 32 lanes; every lane has it, in the same order of additions in every run.
template <class C>
__device__ __forceinline__ C warp_sum(C v) {
  for (int mask = 16; mask > 0; mask /= 2) v += __shfl_xor_sync(0xffffffffu, v, mask);
  return v;
}

template <class C>
struct Moments {
  C mean, rstd;
};

// The row's sums s = x + residual go into the warp's part of shared memory, where later passes find them.
template <class T>
__device__ Moments<Compute<T>> load_row(const T* x, const T* residual, Compute<T>* s, int c, float eps) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  Compute<T> sum = 0, squares = 0;
  for (int i = lane; i < c; i += 32) sum += s[i] = to_float(x[i]) + to_float(residual[i]);
  const Compute<T> mean = warp_sum(sum) / static_cast<Compute<T>>(c);
  for (int i = lane; i < c; i += 32)
    squares += (s[i] - mean) * (s[i] - mean);  // each lane reads what it wrote
  const Compute<T> variance = warp_sum(squares) / static_cast<Compute<T>>(c);
  return {mean, Compute<T>(1) / std::sqrt(variance + static_cast<Compute<T>>(eps))};
}

// Bytes: x, residual and y once each.
template <class T>
__global__ void __launch_bounds__(32 * kWarps)
    forward_kernel(const T* x, const T* residual,                    // [rows,C]
                   const Compute<T>* gamma, const Compute<T>* beta,  // [C]
                   T* y,                                             // [rows,C]
                   int64_t rows, int c, float eps) {
  CAIRN_DYNAMIC_SHARED(Compute<T>, shared);  // [kWarps,C]
  const int warp = static_cast<int>(threadIdx.x / 32);
  Compute<T>* s = shared + warp * c;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= rows) return;  // the whole warp
  const Moments<Compute<T>> m = load_row(x + row * c, residual + row * c, s, c, eps);
  for (int i = static_cast<int>(threadIdx.x % 32); i < c; i += 32)
    y[row * c + i] = from_float<T>(gamma[i] * (s[i] - m.mean) * m.rstd + beta[i]);
}

// Bytes: x, residual, dy (its second reading comes from the L1 cache) and ds once each.
template <class T>
__global__ void __launch_bounds__(32 * kWarps)
    backward_kernel(const T* x, const T* residual, const Compute<T>* gamma, const T* dy, T* ds, int64_t rows,
                    int c, float eps, Write write) {
  CAIRN_DYNAMIC_SHARED(Compute<T>, shared);  // [kWarps,C]
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  Compute<T>* s = shared + warp * c;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= rows) return;
  const Moments<Compute<T>> m = load_row(x + row * c, residual + row * c, s, c, eps);
  Compute<T> sum_g = 0, sum_gx = 0;
  for (int i = lane; i < c; i += 32) {
    const Compute<T> g = to_float(dy[row * c + i]) * gamma[i];
    sum_g += g;
    sum_gx += g * (s[i] - m.mean) * m.rstd;
  }
  const Compute<T> mean_g = warp_sum(sum_g) / static_cast<Compute<T>>(c);
  const Compute<T> mean_gx = warp_sum(sum_gx) / static_cast<Compute<T>>(c);
  for (int i = lane; i < c; i += 32) {
    const Compute<T> g = to_float(dy[row * c + i]) * gamma[i];
    const Compute<T> d = m.rstd * (g - mean_g - (s[i] - m.mean) * m.rstd * mean_gx);
    T& to = ds[row * c + i];
    to = from_float<T>(write == Write::add ? to_float(to) + d : d);
  }
}

template <class T>
__global__ void __launch_bounds__(32 * kWarps)
    moments_kernel(const T* x, const T* residual, Compute<T>* moments,  // [rows,2]
                   int64_t rows, int c, float eps) {
  CAIRN_DYNAMIC_SHARED(Compute<T>, shared);  // [kWarps,C]
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= rows) return;
  const Moments<Compute<T>> m = load_row(x + row * c, residual + row * c, shared + warp * c, c, eps);
  if (threadIdx.x % 32 == 0) {
    moments[2 * row] = m.mean;
    moments[2 * row + 1] = m.rstd;
  }
}

// A block 32 channels: lane = channel, each warp sums every kWarps-th row, then the warps' sums meet in
// shared memory.
template <class T>
__global__ void __launch_bounds__(32 * kWarps)
    parameters_kernel(const T* x, const T* residual, const T* dy, const Compute<T>* moments,
                      Compute<T>* dgamma, Compute<T>* dbeta, int64_t rows, int c, Write write_gamma,
                      Write write_beta) {
  __shared__ Compute<T> partial[2][kWarps][32];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int i = static_cast<int>(blockIdx.x) * 32 + lane;
  Compute<T> sum_gx = 0, sum_g = 0;
  if (i < c)
    for (int64_t row = warp; row < rows; row += kWarps) {
      const Compute<T> g = to_float(dy[row * c + i]);
      const Compute<T> s = to_float(x[row * c + i]) + to_float(residual[row * c + i]);
      sum_gx += g * (s - moments[2 * row]) * moments[2 * row + 1];
      sum_g += g;
    }
  partial[0][warp][lane] = sum_gx;
  partial[1][warp][lane] = sum_g;
  __syncthreads();
  if (warp != 0 || i >= c) return;
  for (int k = 1; k < kWarps; ++k) {
    sum_gx += partial[0][k][lane];
    sum_g += partial[1][k][lane];
  }
  if (dgamma) dgamma[i] = write_gamma == Write::add ? dgamma[i] + sum_gx : sum_gx;
  if (dbeta) dbeta[i] = write_beta == Write::add ? dbeta[i] + sum_g : sum_g;
}

unsigned blocks_for(int64_t rows) { return static_cast<unsigned>((rows + kWarps - 1) / kWarps); }
template <class T>
std::size_t shared_bytes(int c) {
  return sizeof(Compute<T>) * kWarps * static_cast<std::size_t>(c);
}
cudaStream_t stream_of(const Queue& q) { return static_cast<cudaStream_t>(q.stream); }

template <class T>
Status forward_cuda(const Queue& q, const AddNormForward& a) {
  if (a.y.numel() == 0) return {};
  const int c = static_cast<int>(channels_of(a.x));
  return launch(forward_kernel<T>, dim3(blocks_for(rows_of(a.x))), dim3(32 * kWarps), shared_bytes<T>(c),
                stream_of(q), a.x.as<T>(), a.residual.as<T>(), a.gamma.as<Compute<T>>(),
                a.beta.as<Compute<T>>(), a.y.as<T>(), rows_of(a.x), c, a.eps);
}
template <class T>
Status backward_cuda(const Queue& q, const AddNormBackward& a) {
  if (a.ds.numel() == 0) return {};
  const int c = static_cast<int>(channels_of(a.x));
  return launch(backward_kernel<T>, dim3(blocks_for(rows_of(a.x))), dim3(32 * kWarps), shared_bytes<T>(c),
                stream_of(q), a.x.as<T>(), a.residual.as<T>(), a.gamma.as<Compute<T>>(), a.dy.as<T>(),
                a.ds.as<T>(), rows_of(a.x), c, a.eps, a.write);
}
template <class T>
Status parameters_cuda(const Queue& q, const AddNormParameters& a) {
  const int c = static_cast<int>(channels_of(a.x));
  if (c == 0) return {};
  auto* moments = static_cast<Compute<T>*>(a.scratch);
  if (rows_of(a.x) > 0)
    if (Status s =
            launch(moments_kernel<T>, dim3(blocks_for(rows_of(a.x))), dim3(32 * kWarps), shared_bytes<T>(c),
                   stream_of(q), a.x.as<T>(), a.residual.as<T>(), moments, rows_of(a.x), c, a.eps);
        !s.ok())
      return s;
  return launch(parameters_kernel<T>, dim3(static_cast<unsigned>((c + 31) / 32)), dim3(32 * kWarps), 0,
                stream_of(q), a.x.as<T>(), a.residual.as<T>(), a.dy.as<T>(), moments,
                a.dgamma.as<Compute<T>>(), a.dbeta.as<Compute<T>>(), rows_of(a.x), c, a.write_gamma,
                a.write_beta);
}
template <class T>
std::size_t moments_bytes(const Queue&, const AddNormParameters& a) {
  return 2 * sizeof(Compute<T>) * static_cast<std::size_t>(rows_of(a.x));
}

template <class T>
struct FillAddNorm {
  const Fill forward{add_norm_forward, kCudaDevice, dtype_of<T>, &forward_cuda<T>};
  const Fill backward{add_norm_backward, kCudaDevice, dtype_of<T>, &backward_cuda<T>};
  const Fill parameters{add_norm_parameters, kCudaDevice, dtype_of<T>, &parameters_cuda<T>,
                        &moments_bytes<T>};
};
const FillAddNorm<float> kF32;
const FillAddNorm<__nv_bfloat16> kBf16;
const FillAddNorm<__half> kF16;
const FillAddNorm<double> kF64;

}  // namespace
}  // namespace cairn::kernels

#else
#include "engine/autograd.h"
#include "engine/ops/checks.h"
#include "kernels/cpu/elementwise.h"

namespace cairn {
namespace kernels {
namespace {

template <class T>
struct Row {
  using C = CpuCompute<T>;
  const T *x, *residual;
  std::int64_t c;
  C mean = 0, rstd = 0;

  Row(const ConstView& xs, const ConstView& residuals, std::int64_t row, float eps)
      : x(xs.as<T>() + row * channels_of(xs)),
        residual(residuals.as<T>() + row * channels_of(xs)),
        c(channels_of(xs)) {
    C variance = 0;
    for (std::int64_t i = 0; i < c; ++i) mean += sum(i);
    mean /= static_cast<C>(c);
    for (std::int64_t i = 0; i < c; ++i) variance += (sum(i) - mean) * (sum(i) - mean);
    rstd = 1 / std::sqrt(variance / static_cast<C>(c) + static_cast<C>(eps));
  }
  C sum(std::int64_t i) const { return static_cast<C>(x[i]) + static_cast<C>(residual[i]); }
  C normal(std::int64_t i) const { return (sum(i) - mean) * rstd; }
};

constexpr std::int64_t kRowsAPart = 16;

template <class T>
Status forward_cpu(const Queue&, const AddNormForward& a) {
  using C = CpuCompute<T>;
  parallel_for(rows_of(a.x), kRowsAPart, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      const Row<T> row(a.x, a.residual, r, a.eps);
      for (std::int64_t i = 0; i < row.c; ++i)
        a.y.as<T>()[r * row.c + i] = static_cast<T>(a.gamma.as<C>()[i] * row.normal(i) + a.beta.as<C>()[i]);
    }
  });
  return {};
}

template <class T>
Status backward_cpu(const Queue&, const AddNormBackward& a) {
  using C = CpuCompute<T>;
  parallel_for(rows_of(a.x), kRowsAPart, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      const Row<T> row(a.x, a.residual, r, a.eps);
      const auto g = [&](std::int64_t i) {
        return static_cast<C>(a.dy.as<T>()[r * row.c + i]) * a.gamma.as<C>()[i];
      };
      C mean_g = 0, mean_gx = 0;
      for (std::int64_t i = 0; i < row.c; ++i) {
        mean_g += g(i) / static_cast<C>(row.c);
        mean_gx += g(i) * row.normal(i) / static_cast<C>(row.c);
      }
      for (std::int64_t i = 0; i < row.c; ++i) {
        const C d = row.rstd * (g(i) - mean_g - row.normal(i) * mean_gx);
        T& to = a.ds.as<T>()[r * row.c + i];
        to = static_cast<T>(a.write == Write::add ? static_cast<C>(to) + d : d);
      }
    }
  });
  return {};
}

// One thread: the sums run over the rows.
template <class T>
Status parameters_cpu(const Queue&, const AddNormParameters& a) {
  using C = CpuCompute<T>;
  const auto start = [&](const View& v, Write write) {
    if (v && write == Write::assign) std::fill_n(v.as<C>(), v.numel(), C(0));
  };
  start(a.dgamma, a.write_gamma);
  start(a.dbeta, a.write_beta);
  for (std::int64_t r = 0; r < rows_of(a.x); ++r) {
    const Row<T> row(a.x, a.residual, r, a.eps);
    for (std::int64_t i = 0; i < row.c; ++i) {
      const C dy = static_cast<C>(a.dy.as<T>()[r * row.c + i]);
      if (a.dgamma) a.dgamma.as<C>()[i] += dy * row.normal(i);
      if (a.dbeta) a.dbeta.as<C>()[i] += dy;
    }
  }
  return {};
}

template <class T>
struct FillAddNorm {
  const Fill forward{add_norm_forward, DeviceType::cpu, dtype_of<T>, &forward_cpu<T>};
  const Fill backward{add_norm_backward, DeviceType::cpu, dtype_of<T>, &backward_cpu<T>};
  const Fill parameters{add_norm_parameters, DeviceType::cpu, dtype_of<T>, &parameters_cpu<T>};
};
const FillAddNorm<float> kF32;
const FillAddNorm<BFloat16> kBf16;
const FillAddNorm<double> kF64;

}  // namespace
}  // namespace kernels

/// layer_norm(x + residual) over the last axis. x, residual [...,C], gamma, beta [C] -> [...,C]; C up to 4096
/// on CUDA devices (4 rows in a block's shared memory). Throws ShapeError, DTypeError.
Tensor add_layer_norm(const Tensor& x, const Tensor& residual, const Tensor& gamma, const Tensor& beta) {
  constexpr const char* kName = "add_layer_norm";
  ops::require_floating(x, kName);
  ops::require(x.rank() >= 1, kName, "x is a scalar, expected at least one axis");
  ops::require(residual.shape() == x.shape(), kName,
               "residual is " + to_string(residual.shape()) + ", expected " + to_string(x.shape()));
  ops::require_dtype(residual, x.dtype(), kName, "residual");
  const std::int64_t c = x.size(x.rank() - 1);
  ops::require(c >= 1 && c <= 4096, kName, std::to_string(c) + " channels, expected 1 to 4096");
  ops::require_parameter(x, gamma, {c}, kName, "gamma");
  ops::require_parameter(x, beta, {c}, kName, "beta");
  Tensor y = empty_like(x);
  call(kernels::add_norm_forward, x.queue(), {x.view(), residual.view(), gamma.view(), beta.view(), y.out()});
  return record(
      kName, y, {x, residual, gamma, beta},
      [x = Saved(x), residual = Saved(residual), gamma = Saved(gamma)](Grads& g) {
        const kernels::Queue& queue = x.tensor().queue();
        // Both inputs have the same gradient; each asks for it by itself, and adds or assigns as its tensor
        // needs.
        for (const std::size_t input : {0, 1})
          if (auto ds = g.wants(input))
            call(kernels::add_norm_backward, queue,
                 {x.view(), residual.view(), gamma.view(), g.output(), ds->view, ds->write});
        const auto dgamma = g.wants(2), dbeta = g.wants(3);
        if (!dgamma && !dbeta) return;
        kernels::AddNormParameters a{
            .x = x.view(), .residual = residual.view(), .dy = g.output(), .dgamma = {}, .dbeta = {}};
        if (dgamma) a.dgamma = dgamma->view, a.write_gamma = dgamma->write;
        if (dbeta) a.dbeta = dbeta->view, a.write_beta = dbeta->write;
        call(kernels::add_norm_parameters, queue, a);
      });
}

}  // namespace cairn
#endif
