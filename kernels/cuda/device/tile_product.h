#pragma once
/// The product that gemm_plain.cu and conv_plain.cu share: out(m, n) = sum_k a(m, k) b(k, n), where functors
/// say what a, b and out are, so that a convolution is a product whose elements are looked up as they are
/// needed.
#include <algorithm>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/launch.h"

namespace cairn::kernels {

/// A block of 256 threads makes a 64x64 tile of the result, 16 steps of k at a time, 4x4 results a thread.
inline constexpr int kTile = 64, kTileDepth = 16, kTileThreads = 16, kTilePart = kTile / kTileThreads;
/// A row of the tile in shared memory: two more, so that 32 lanes that write 16 rows and 2 columns meet 32
/// different banks (fp32).
inline constexpr int kTileRow = kTile + 2;

struct TileSize {
  int64_t m, n, k, batches;
};

/// How a thread's elements of a tile of `outer` x k are shared out, so that neighbouring threads read
/// neighbouring addresses: along k or along the other axis.
struct TileElement {
  int outer, depth;
  __device__ TileElement(int i, bool along_depth)
      : outer(along_depth ? i / kTileDepth : i % kTile), depth(along_depth ? i % kTileDepth : i / kTile) {}
};

/// a(batch, m, k) and b(batch, k, n) give C = Compute<T>; a.along_depth and b.along_depth say which axis is
/// dense; land(batch, m, n, sum) stores. Sums run over k in order, in C. grid: (tiles of n, tiles of m gone
/// round, batches gone round). At least two blocks a multiprocessor: without the second figure ptxas keeps to
/// 64 registers, and spills.
template <class C, class A, class B, class Land>
__global__ void __launch_bounds__(kBlock, 2) tile_product_kernel(TileSize size, A a, B b, Land land) {
  __shared__ C a_tile[kTileDepth][kTileRow];
  __shared__ C b_tile[kTileDepth][kTileRow];
  const int t = static_cast<int>(threadIdx.x), column = t % kTileThreads, row = t / kTileThreads;
  const int64_t first_n = static_cast<int64_t>(blockIdx.x) * kTile;
  for (int64_t batch = blockIdx.z; batch < size.batches; batch += gridDim.z) {
    for (int64_t first_m = static_cast<int64_t>(blockIdx.y) * kTile; first_m < size.m;
         first_m += static_cast<int64_t>(gridDim.y) * kTile) {
      C sum[kTilePart][kTilePart] = {};
      for (int64_t first_k = 0; first_k < size.k; first_k += kTileDepth) {
        for (int i = t; i < kTile * kTileDepth; i += static_cast<int>(kBlock)) {
          const TileElement ea(i, a.along_depth), eb(i, b.along_depth);
          const int64_t m = first_m + ea.outer, ka = first_k + ea.depth;
          const int64_t n = first_n + eb.outer, kb = first_k + eb.depth;
          a_tile[ea.depth][ea.outer] = m < size.m && ka < size.k ? a(batch, m, ka) : C(0);
          b_tile[eb.depth][eb.outer] = n < size.n && kb < size.k ? b(batch, kb, n) : C(0);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < kTileDepth; ++k) {
          C va[kTilePart], vb[kTilePart];
          // A warp reads two values of a (each a broadcast) and sixteen neighbours of b: no bank conflicts.
#pragma unroll
          for (int i = 0; i < kTilePart; ++i) va[i] = a_tile[k][row + i * kTileThreads];
#pragma unroll
          for (int j = 0; j < kTilePart; ++j) vb[j] = b_tile[k][column + j * kTileThreads];
#pragma unroll
          for (int i = 0; i < kTilePart; ++i)
#pragma unroll
            for (int j = 0; j < kTilePart; ++j) sum[i][j] += va[i] * vb[j];
        }
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kTilePart; ++i) {
        const int64_t m = first_m + row + i * kTileThreads;
#pragma unroll
        for (int j = 0; j < kTilePart; ++j) {
          const int64_t n = first_n + column + j * kTileThreads;
          if (m < size.m && n < size.n) land(batch, m, n, sum[i][j]);
        }
      }
    }
  }
}

template <class C, class A, class B, class Land>
Status launch_tile_product(cudaStream_t stream, const TileSize& size, const A& a, const B& b,
                           const Land& land) {
  if (size.m == 0 || size.n == 0 || size.batches == 0) return {};
  constexpr int64_t kMost = 65535;  // blocks along a grid's second and third axis
  const auto tiles = [](int64_t n) { return (n + kTile - 1) / kTile; };
  const dim3 grid(static_cast<unsigned>(tiles(size.n)), static_cast<unsigned>(std::min(tiles(size.m), kMost)),
                  static_cast<unsigned>(std::min(size.batches, kMost)));
  return launch(&tile_product_kernel<C, A, B, Land>, grid, dim3(kBlock), 0, stream, size, a, b, land);
}

/// Element `i` of memory that holds T, as it is computed; parameters (fp32) are first rounded to T, as the
/// vendor libraries' arithmetic would have it.
template <class T>
__device__ __forceinline__ Compute<T> element(const T* p, int64_t i) {
  return to_float(p[i]);
}
template <class T>
__device__ __forceinline__ Compute<T> parameter(const Compute<T>* p, int64_t i) {
  return to_float(from_float<T>(p[i]));
}

}  // namespace cairn::kernels
