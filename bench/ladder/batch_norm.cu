// The rungs on a CUDA device. x is [rows, C]: rows = N*H*W, channels side by side in memory.
#include "bench/ladder/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/launch.h"

namespace cairn::bench {
namespace {

using namespace kernels;

constexpr int kLanes = 32, kGroups = static_cast<int>(kBlock) / kLanes;

struct Norm {
  const float* x;             // [rows,C]
  const float *gamma, *beta;  // [C]
  float* y;                   // [rows,C]
  float *mean, *inv_std;      // [C]
  int64_t rows, channels;
  float eps;
};
Norm norm_of(const BatchNormForward& a) {
  const int64_t c = a.gamma.numel();
  return {a.x.as<float>(),
          a.gamma.as<float>(),
          a.beta.as<float>(),
          a.y.as<float>(),
          a.mean.as<float>(),
          a.inv_std.as<float>(),
          a.x.numel() / c,
          c,
          a.eps};
}
cudaStream_t stream_of(const Queue& q) { return static_cast<cudaStream_t>(q.stream); }

__device__ float relu(float v) { return v > 0 ? v : 0; }

// ---- a block a channel: the formula, one statistic after the other ----

__device__ float block_sum(float v, float* shared) {
  const unsigned t = threadIdx.x;
  __syncthreads();  // the sum before has been read
  shared[t] = v;
  for (unsigned half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) shared[t] += shared[t + half];
  }
  __syncthreads();
  return shared[0];
}
__global__ void __launch_bounds__(kBlock) channel_a_block_kernel(Norm n) {
  __shared__ float shared[kBlock];
  const int64_t c = blockIdx.x;
  const auto count = static_cast<float>(n.rows);
  float sum = 0, squares = 0;
  for (int64_t r = threadIdx.x; r < n.rows; r += kBlock) sum += n.x[r * n.channels + c];
  const float mean = block_sum(sum, shared) / count;
  for (int64_t r = threadIdx.x; r < n.rows; r += kBlock) {
    const float d = n.x[r * n.channels + c] - mean;
    squares += d * d;
  }
  const float inv_std = 1 / std::sqrt(block_sum(squares, shared) / count + n.eps);
  for (int64_t r = threadIdx.x; r < n.rows; r += kBlock) {
    const int64_t i = r * n.channels + c;
    n.y[i] = relu(n.gamma[c] * (n.x[i] - mean) * inv_std + n.beta[c]);
  }
  if (threadIdx.x == 0) {
    n.mean[c] = mean;
    n.inv_std[c] = inv_std;
  }
}
Status channel_a_block(const Queue& q, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  return launch(channel_a_block_kernel, dim3(static_cast<unsigned>(n.channels)), dim3(kBlock), 0,
                stream_of(q), n);
}

// ---- lanes along the channels; both sums in one pass; blocks meet in atomics ----

/// Blocks of 32 channels by what the rows are worth.
dim3 tiles_of(const Norm& n) {
  return {static_cast<unsigned>(std::clamp<int64_t>(n.rows / 256, 1, kMostSplits)),
          static_cast<unsigned>((n.channels + kLanes - 1) / kLanes)};
}
struct Position {
  int64_t channel, row, step;
};
__device__ Position position_of() {
  const int lane = static_cast<int>(threadIdx.x) % kLanes, group = static_cast<int>(threadIdx.x) / kLanes;
  return {static_cast<int64_t>(blockIdx.y) * kLanes + lane,
          static_cast<int64_t>(blockIdx.x) * kGroups + group, static_cast<int64_t>(gridDim.x) * kGroups};
}
__global__ void __launch_bounds__(kBlock) clear_kernel(float* sums, int64_t n) {
  for (int64_t i = grid_start(); i < n; i += grid_stride()) sums[i] = 0;
}
__global__ void __launch_bounds__(kBlock) atomic_sums_kernel(Norm n, float* sums) {  // [2][C]
  const Position p = position_of();
  if (p.channel >= n.channels) return;
  float sum = 0, squares = 0;
  for (int64_t r = p.row; r < n.rows; r += p.step) {
    const float v = n.x[r * n.channels + p.channel];
    sum += v;
    squares += v * v;
  }
  atomicAdd(sums + p.channel, sum);
  atomicAdd(sums + n.channels + p.channel, squares);
}
__global__ void __launch_bounds__(kBlock) normalise_from_sums_kernel(Norm n, const float* sums) {
  const auto count = static_cast<float>(n.rows);
  for (int64_t i = grid_start(); i < n.rows * n.channels; i += grid_stride()) {
    const int64_t c = i % n.channels;
    const float mean = sums[c] / count, variance = sums[n.channels + c] / count - mean * mean;
    const float inv_std = 1 / std::sqrt(variance + n.eps);
    n.y[i] = relu(n.gamma[c] * (n.x[i] - mean) * inv_std + n.beta[c]);
    if (i < n.channels) {
      n.mean[c] = mean;
      n.inv_std[c] = inv_std;
    }
  }
}
Status coalesced_atomics(const Queue& q, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  auto* sums = static_cast<float*>(a.scratch);
  Status s = launch(clear_kernel, dim3(grid_for(2 * n.channels)), dim3(kBlock), 0, stream_of(q), sums,
                    2 * n.channels);
  if (!s.ok()) return s;
  Status added = launch(atomic_sums_kernel, tiles_of(n), dim3(kBlock), 0, stream_of(q), n, sums);
  if (!added.ok()) return added;
  return launch(normalise_from_sums_kernel, dim3(grid_for(n.rows * n.channels)), dim3(kBlock), 0,
                stream_of(q), n, sums);
}

// ---- sums meet in shared memory, blocks' sums in a second kernel: the same bits in every run ----

__global__ void __launch_bounds__(kBlock) block_sums_kernel(Norm n, float* partial) {  // [2][gridDim.x][C]
  __shared__ float shared[2][kGroups][kLanes];
  const Position p = position_of();
  const int lane = static_cast<int>(threadIdx.x) % kLanes, group = static_cast<int>(threadIdx.x) / kLanes;
  float sum = 0, squares = 0;
  if (p.channel < n.channels)
    for (int64_t r = p.row; r < n.rows; r += p.step) {
      const float v = n.x[r * n.channels + p.channel];
      sum += v;
      squares += v * v;
    }
  shared[0][group][lane] = sum;
  shared[1][group][lane] = squares;
  __syncthreads();
  if (group != 0 || p.channel >= n.channels) return;
  for (int g = 1; g < kGroups; ++g) {
    sum += shared[0][g][lane];
    squares += shared[1][g][lane];
  }
  partial[blockIdx.x * n.channels + p.channel] = sum;
  partial[(gridDim.x + blockIdx.x) * n.channels + p.channel] = squares;
}
__global__ void __launch_bounds__(kBlock) finish_sums_kernel(Norm n, const float* partial, int splits) {
  const int64_t c = grid_start();
  if (c >= n.channels) return;
  float sum = 0, squares = 0;
  for (int s = 0; s < splits; ++s) {
    sum += partial[s * n.channels + c];
    squares += partial[(splits + s) * n.channels + c];
  }
  const auto count = static_cast<float>(n.rows);
  const float mean = sum / count;
  n.mean[c] = mean;
  n.inv_std[c] = 1 / std::sqrt(squares / count - mean * mean + n.eps);
}
__global__ void __launch_bounds__(kBlock) normalise_kernel(Norm n) {
  for (int64_t i = grid_start(); i < n.rows * n.channels; i += grid_stride()) {
    const int64_t c = i % n.channels;
    n.y[i] = relu(n.gamma[c] * (n.x[i] - n.mean[c]) * n.inv_std[c] + n.beta[c]);
  }
}
Status finish_sums(const Queue& q, const Norm& n, const float* partial, unsigned splits) {
  return launch(finish_sums_kernel, dim3(grid_for(n.channels)), dim3(kBlock), 0, stream_of(q), n, partial,
                static_cast<int>(splits));
}
Status block_sums(const Queue& q, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  auto* partial = static_cast<float*>(a.scratch);
  const dim3 tiles = tiles_of(n);
  Status s = launch(block_sums_kernel, tiles, dim3(kBlock), 0, stream_of(q), n, partial);
  if (!s.ok()) return s;
  Status finished = finish_sums(q, n, partial, tiles.x);
  if (!finished.ok()) return finished;
  return launch(normalise_kernel, dim3(grid_for(n.rows * n.channels)), dim3(kBlock), 0, stream_of(q), n);
}

// ---- 16 bytes an access: a thread has four channels, and keeps what belongs to them in registers ----

constexpr int kWide = 4;

__global__ void __launch_bounds__(kBlock) wide_sums_kernel(Norm n, int lanes, float* partial) {
  // [thread][channel]: the four words of a thread lie side by side, so that 32 lanes that each store one word
  // meet in 8 banks.
  __shared__ float shared[2][kBlock][kWide];
  const int t = static_cast<int>(threadIdx.x), lane = t % lanes, group = t / lanes,
            groups = static_cast<int>(kBlock) / lanes;
  const int64_t c = kWide * (static_cast<int64_t>(blockIdx.y) * lanes + lane);
  float sum[kWide] = {}, squares[kWide] = {};
  if (c < n.channels && group < groups)
    for (int64_t r = static_cast<int64_t>(blockIdx.x) * groups + group; r < n.rows;
         r += static_cast<int64_t>(gridDim.x) * groups) {
      const Vector128<float> v = load_128(n.x + r * n.channels + c);
      for (int k = 0; k < kWide; ++k) {
        sum[k] += v.v[k];
        squares[k] += v.v[k] * v.v[k];
      }
    }
  for (int k = 0; k < kWide; ++k) {
    shared[0][t][k] = sum[k];
    shared[1][t][k] = squares[k];
  }
  __syncthreads();
  if (group != 0 || c >= n.channels) return;
  for (int k = 0; k < kWide; ++k) {
    for (int g = 1; g < groups; ++g) {
      sum[k] += shared[0][t + g * lanes][k];
      squares[k] += shared[1][t + g * lanes][k];
    }
    partial[blockIdx.x * n.channels + c + k] = sum[k];
    partial[(gridDim.x + blockIdx.x) * n.channels + c + k] = squares[k];
  }
}
__global__ void __launch_bounds__(kBlock) wide_normalise_kernel(Norm n, int lanes) {
  const int lane = static_cast<int>(threadIdx.x) % lanes, group = static_cast<int>(threadIdx.x) / lanes,
            groups = static_cast<int>(kBlock) / lanes;
  const int64_t c = kWide * (static_cast<int64_t>(blockIdx.y) * lanes + lane);
  if (c >= n.channels || group >= groups) return;
  float scale[kWide], shift[kWide];
  for (int k = 0; k < kWide; ++k) {
    scale[k] = n.gamma[c + k] * n.inv_std[c + k];
    shift[k] = n.beta[c + k] - n.mean[c + k] * scale[k];
  }
  for (int64_t r = static_cast<int64_t>(blockIdx.x) * groups + group; r < n.rows;
       r += static_cast<int64_t>(gridDim.x) * groups) {
    Vector128<float> v = load_128(n.x + r * n.channels + c);
    for (int k = 0; k < kWide; ++k) v.v[k] = relu(v.v[k] * scale[k] + shift[k]);
    store_128(n.y + r * n.channels + c, v);
  }
}
Status wide(const Queue& q, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  if (n.channels % kWide != 0) return Status::error("[ladder] this rung wants a multiple of 4 channels");
  auto* partial = static_cast<float*>(a.scratch);
  const int lanes = static_cast<int>(std::min<int64_t>(n.channels / kWide, kBlock));
  const int64_t share = static_cast<int64_t>(kBlock) / lanes * 32;  // rows of a block: 32 a thread
  const dim3 tiles{static_cast<unsigned>(std::clamp<int64_t>((n.rows + share - 1) / share, 1, kMostSplits)),
                   static_cast<unsigned>((n.channels / kWide + lanes - 1) / lanes)};
  Status s = launch(wide_sums_kernel, tiles, dim3(kBlock), 0, stream_of(q), n, lanes, partial);
  if (!s.ok()) return s;
  Status finished = finish_sums(q, n, partial, tiles.x);
  if (!finished.ok()) return finished;
  return launch(wide_normalise_kernel, tiles, dim3(kBlock), 0, stream_of(q), n, lanes);
}

constexpr Rung kRungs[] = {
    {"a block a channel", "the formula: mean, variance, result, each in a pass down the rows",
     &channel_a_block},
    {"lanes along channels", "neighbouring lanes read neighbouring addresses; both sums in one pass; atomics",
     &coalesced_atomics},
    {"sums in shared memory", "no atomics: blocks leave partial sums, a small kernel adds them in order",
     &block_sums},
    {"16 bytes an access", "four channels a thread, whose factors stay in registers", &wide},
    {"the product", "no bank conflicts, sums in fp64 about each group's mean, 16-bit types, residual",
     &product},
};

}  // namespace

std::span<const Rung> cuda_rungs() { return kRungs; }

}  // namespace cairn::bench
