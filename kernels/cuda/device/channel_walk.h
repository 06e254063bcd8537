#pragma once
/// Walks over rows of C channels, [rows,C]: a thread keeps kWidth channels, 16 bytes of them where C allows,
/// and goes down the rows, so that accesses are coalesced and what belongs to a channel is read once a
/// thread.
#include "kernels/cuda/device/elementwise.h"

namespace cairn::kernels {

inline constexpr int kRows = 4;  // held in registers at a time: 32 values of a 16-bit type

struct Walk {
  int64_t rows, channels;
  int lanes, rows_per_block;  // threads along the channels, and what they leave
  template <int kWidth>
  __device__ int64_t column() const {
    return (static_cast<int64_t>(blockIdx.y) * lanes + static_cast<int>(threadIdx.x) % lanes) * kWidth;
  }
  __device__ int row() const { return static_cast<int>(threadIdx.x) / lanes; }
  template <int kWidth>
  __device__ bool active() const {
    return row() < rows_per_block && column<kWidth>() < channels;
  }
};
/// kWidth numbers that belong to the thread's channels, `p` at the first of them. Aligned as a pack of 16
/// bytes.
template <int kWidth, class C>
struct ChannelValues {
  static constexpr int kPart = kWidth * sizeof(C) <= 16 ? kWidth : 16 / static_cast<int>(sizeof(C));
  C v[kWidth];
  __device__ __forceinline__ void load(const C* p, int64_t stride = kPart) {
#pragma unroll
    for (int k = 0; k < kWidth; k += kPart) {
      const Pack<kPart, C> part = load_pack<kPart>(p + k / kPart * stride);
#pragma unroll
      for (int j = 0; j < kPart; ++j) v[k + j] = part.v[j];
    }
  }
};

/// Numbers of channels in scratch, [C], in the order in which walks of `width` channels a thread write and
/// read them: first everyone's first 16 bytes, then everyone's second, so that lanes' accesses lie side by
/// side.
template <class C>
struct ChannelScratch {
  C* p;
  int64_t channels;
  int width;
  /// Where channel c lies. Channels fit an int, whose division is no call.
  __device__ int64_t place(int64_t c) const {
    const int part = width * static_cast<int>(sizeof(C)) <= 16 ? width : 16 / static_cast<int>(sizeof(C));
    const int lanes = static_cast<int>(channels) / width, lane = static_cast<int>(c) / width;
    const int k = static_cast<int>(c) - lane * width;
    return (k / part * lanes + lane) * part + k % part;
  }
  __device__ C& at(int64_t c) const { return p[place(c)]; }
  /// kWidth = width, `column` the first of the thread's channels.
  template <int kWidth>
  __device__ __forceinline__ void read(int64_t column, ChannelValues<kWidth, C>& out) const {
    constexpr int kPart = ChannelValues<kWidth, C>::kPart;
    out.load(p + column / kWidth * kPart, channels / kWidth * kPart);
  }
  template <int kWidth>
  __device__ __forceinline__ void write(int64_t column, const C (&values)[kWidth]) const {
    constexpr int kPart = ChannelValues<kWidth, C>::kPart;
#pragma unroll
    for (int k = 0; k < kWidth; k += kPart) {
      Pack<kPart, C> part;
#pragma unroll
      for (int j = 0; j < kPart; ++j) part.v[j] = values[k + j];
      store_pack(p + (k / kPart * (channels / kWidth) + column / kWidth) * kPart, part);
    }
  }
};

/// partial[0][split] and partial[1][split], each a ChannelScratch: what f.add<kWidth>() makes of the rows of
/// each block.
template <int kWidth, class F>
__global__ void __launch_bounds__(kBlock) sums_kernel(Walk walk, F f, double* partial) {
  __shared__ double shared[2][kWidth][kBlock];
  const int t = static_cast<int>(threadIdx.x);
  double first[kWidth] = {}, second[kWidth] = {};
  const int64_t column = walk.template column<kWidth>();
  if (walk.template active<kWidth>()) {
    const auto state = f.template prepare<kWidth>(column);
    const int64_t step = static_cast<int64_t>(gridDim.x) * walk.rows_per_block;
    for (int64_t row = static_cast<int64_t>(blockIdx.x) * walk.rows_per_block + walk.row(); row < walk.rows;
         row += kRows * step) {
      int rows = 0;  // counted, since a 64-bit division is a call around which registers spill
#pragma unroll
      for (int k = 0; k < kRows; ++k) rows += row + k * step < walk.rows ? 1 : 0;
      f.template add<kWidth>(state, row * walk.channels + column, step * walk.channels, rows, first, second);
    }
  }
#pragma unroll
  for (int k = 0; k < kWidth; ++k) {
    shared[0][k][t] = first[k];
    shared[1][k][t] = second[k];
  }
  __syncthreads();
  if (walk.row() != 0 || column >= walk.channels) return;
  for (int r = 1; r < walk.rows_per_block; ++r) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      first[k] += shared[0][k][t + r * walk.lanes];
      second[k] += shared[1][k][t + r * walk.lanes];
    }
  }
  double* const mine = partial + static_cast<int64_t>(blockIdx.x) * walk.channels;
  ChannelScratch<double>{mine, walk.channels, kWidth}.template write<kWidth>(column, first);
  ChannelScratch<double>{mine + gridDim.x * walk.channels, walk.channels, kWidth}.template write<kWidth>(
      column, second);
}

/// f(c, first sum, second sum) for each channel: 32 a block, whose eight warps share the splits.
inline constexpr int kColumns = 32, kGroups = static_cast<int>(kBlock) / kColumns;
template <class F>
__global__ void __launch_bounds__(kBlock)
    finish_kernel(double* partial, int splits, int64_t channels, int width, F f) {
  __shared__ double shared[2][kGroups][kColumns];
  const int lane = static_cast<int>(threadIdx.x) % kColumns, group = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  double first = 0, second = 0;
  if (c < channels) {
    const int64_t place = ChannelScratch<double>{partial, channels, width}.place(c);
    for (int s = group; s < splits; s += kGroups) {
      first += partial[s * channels + place];
      second += partial[(splits + s) * channels + place];
    }
  }
  shared[0][group][lane] = first;
  shared[1][group][lane] = second;
  __syncthreads();
  if (group != 0 || c >= channels) return;
  for (int g = 1; g < kGroups; ++g) {
    first += shared[0][g][lane];
    second += shared[1][g][lane];
  }
  f(c, first, second);
}

/// f.run<kWidth>(state, i) for all groups of elements; state = f.prepare<kWidth>(channel).
template <int kWidth, class F>
__global__ void __launch_bounds__(kBlock, 2) walk_kernel(Walk walk, F f) {
  if (!walk.template active<kWidth>()) return;
  const int64_t column = walk.template column<kWidth>();
  const auto state = f.template prepare<kWidth>(column);
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * walk.rows_per_block + walk.row(); row < walk.rows;
       row += static_cast<int64_t>(gridDim.x) * walk.rows_per_block)
    f.template run<kWidth>(state, row * walk.channels + column);
}

}  // namespace cairn::kernels
