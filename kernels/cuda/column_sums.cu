// y[k] = sum_r x[r,k], x [rows,K]: each block sums its rows for 32 columns, a second kernel adds the blocks'
// results in order.
// Bytes: x once (a warp reads 32 neighbouring columns: 64 or 128 bytes, whole sectors), partial sums of at
// most rows/256 rows. Limited by memory.
#include "kernels/cuda/column_sums.h"

#include <algorithm>

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

constexpr int kColumns = 32, kRows = static_cast<int>(kBlock) / kColumns;

template <class T>
__global__ void __launch_bounds__(kBlock) sum_columns_kernel(const T* x,           // [rows,columns]
                                                             Compute<T>* partial,  // [gridDim.y,columns]
                                                             int64_t rows, int64_t columns) {
  __shared__ Compute<T> shared[kRows][kColumns];  // a warp writes and reads one row: no bank conflicts
  const int lane = static_cast<int>(threadIdx.x) % kColumns, row = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane;
  const int64_t begin = rows * blockIdx.y / gridDim.y, end = rows * (blockIdx.y + 1) / gridDim.y;
  Compute<T> sum = 0;
  if (column < columns)
    for (int64_t r = begin + row; r < end; r += kRows) sum += to_float(x[r * columns + column]);
  shared[row][lane] = sum;
  __syncthreads();
  if (row == 0 && column < columns) {
    for (int i = 1; i < kRows; ++i) sum += shared[i][lane];
    partial[static_cast<int64_t>(blockIdx.y) * columns + column] = sum;
  }
}

template <class C>
__global__ void __launch_bounds__(kBlock) join_sums_kernel(const C* partial,  // [splits,columns]
                                                           C* y,              // [columns]
                                                           int splits, int64_t columns, bool add) {
  for (int64_t k = grid_start(); k < columns; k += grid_stride()) {
    C sum = 0;
    for (int s = 0; s < splits; ++s) sum += partial[s * columns + k];
    y[k] = add ? y[k] + sum : sum;
  }
}

struct Sizes {
  explicit Sizes(const ColumnSums& a)
      : columns(a.y.numel()),
        rows(columns == 0 ? 0 : a.x.numel() / columns),
        // 256 rows or more a block, so that its start is not what takes the time; up to 512 blocks a tile of
        // columns, four for each SM of an H100.
        splits(static_cast<int>(std::clamp<int64_t>(rows / 256, 1, 512))) {}
  int64_t columns, rows;
  int splits;
};

std::size_t column_sums_workspace(const Queue&, const ColumnSums& a) {
  const Sizes s(a);
  return static_cast<std::size_t>(s.splits * s.columns) * size_of(a.y.dtype);
}

Status column_sums_cuda(const Queue& queue, const ColumnSums& a) {
  const Sizes s(a);
  if (s.columns == 0) return {};
  const dim3 grid(static_cast<unsigned>((s.columns + kColumns - 1) / kColumns),
                  static_cast<unsigned>(s.splits));
  return with_compute_type(a.x.dtype, [&]<class T>(TypeTag<T>) -> Status {
    using C = Compute<T>;
    auto* partial = static_cast<C*>(a.scratch);
    Status first = launch(&sum_columns_kernel<T>, grid, dim3(kBlock), 0, stream_of(queue), a.x.as<T>(),
                          partial, s.rows, s.columns);
    if (!first.ok()) return first;
    return launch(&join_sums_kernel<C>, dim3(grid_for(s.columns)), dim3(kBlock), 0, stream_of(queue),
                  static_cast<const C*>(partial), a.y.as<C>(), s.splits, s.columns, a.write == Write::add);
  });
}

const FillCuda kFill{column_sums, &column_sums_cuda, &column_sums_workspace};

}  // namespace
}  // namespace cairn::kernels
