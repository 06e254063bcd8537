// Reductions of kernels/reduce.h over x seen as [k][a][b][c][d], a and c reduced (kernels/axes.h):
// y[k][b][d]. Bytes: x once and y once (reduce, l2_norm), x twice, the second time mostly from the caches,
// and dx once (reduce_max_backward). Limited by memory; where there are few outputs the reduced range is cut
// into `splits`, whose partial results pass through scratch, to fill the device. Sums are added in an order
// that depends on the shapes alone: threads in turn, warps by halves, splits in turn; no atomics.
#include "kernels/reduce.h"

#include <algorithm>
#include <cmath>

#include "kernels/axes.h"
#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

template <class T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));

template <class Op, class C>
__device__ __forceinline__ C identity() {
  if constexpr (std::is_same_v<Op, Sum>)
    return C(0);
  else
    return -static_cast<C>(INFINITY);
}

struct Geometry {
  ReduceAxes axes;
  int64_t splits;
  // A step along the reduced range without a division: `step` elements on are step_c on in c, or, where that
  // leaves c, one more in a.
  int64_t step_c, jump, wrap;  // the last two in elements of x
};
Geometry geometry(const ReduceAxes& ax, int64_t splits, int64_t step) {
  const int64_t stride_a = ax.b * ax.c * ax.d;
  return {ax, splits, step % ax.c, step / ax.c * stride_a + step % ax.c * ax.d, stride_a - ax.c * ax.d};
}

// Where the elements of an output's reduced range lie: r, r + step, ... of output (kb, column).
class Walk {
 public:
  __device__ __forceinline__ Walk(const Geometry& g, int64_t kb, int64_t r, int64_t column) : c_(r) {
    const ReduceAxes& ax = g.axes;
    int64_t k = kb, b = 0, a = 0;
    if (ax.b != 1) {
      k = kb / ax.b;
      b = kb - k * ax.b;
    }
    if (ax.a != 1) {
      a = r / ax.c;
      c_ = r - a * ax.c;
    }
    offset_ = (((k * ax.a + a) * ax.b + b) * ax.c + c_) * ax.d + column;
  }
  __device__ __forceinline__ int64_t offset() const { return offset_; }
  __device__ __forceinline__ void next(const Geometry& g) {
    offset_ += g.jump;
    c_ += g.step_c;
    if (c_ >= g.axes.c) {
      c_ -= g.axes.c;
      offset_ += g.wrap;
    }
  }

 private:
  int64_t c_, offset_;
};

// Result of one output, or of one split of it.
template <class T>
__device__ __forceinline__ void land_result(T* y, Compute<T>* partial, int64_t output, int64_t place,
                                            Compute<T> value, Compute<T> scale, Write write) {
  if (partial)
    partial[place] = value;
  else
    land_values<1>(y + output, Values<1, T>{{scale * value}}, write);
}

// d > 1. kLanes threads along d, kWidth columns each; the block's other threads along the reduced range.
// grid: (column tiles, k*b gone round, splits). partial: [splits][outputs] or null.
template <class Op, int kLanes, int kWidth, class T>
__global__ void __launch_bounds__(kBlock)
    reduce_columns_kernel(const T* x, T* y, Compute<T>* partial, Geometry g, Compute<T> scale, Write write) {
  using C = Compute<T>;
  constexpr int kRows = kBlock / kLanes, kColumns = kLanes * kWidth;
  // A thread's columns lie kLanes apart, and rows start in different banks.
  __shared__ C shared[kRows][kColumns + kLanes % 32];
  const ReduceAxes& ax = g.axes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes, row = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kColumns;
  const int64_t split = blockIdx.z;
  const int64_t begin = ax.reduced() * split / g.splits, end = ax.reduced() * (split + 1) / g.splits;
  for (int64_t kb = blockIdx.y; kb < ax.k * ax.b; kb += gridDim.y) {
    C acc[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) acc[k] = identity<Op, C>();
    const int64_t column = first + lane * kWidth;
    if (column < ax.d) {
      Walk at(g, kb, begin + row, column);
      for (int64_t r = begin + row; r < end; r += kRows, at.next(g)) {
        const Values<kWidth, T> v = load_values<kWidth>(x + at.offset());
#pragma unroll
        for (int k = 0; k < kWidth; ++k) acc[k] = Op{}(acc[k], v.v[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < kWidth; ++k) shared[row][k * kLanes + lane] = acc[k];
    __syncthreads();
    const int place = static_cast<int>(threadIdx.x);
    const int64_t mine = first + place % kLanes * kWidth + place / kLanes;
    if (place < kColumns && mine < ax.d) {
      C total = shared[0][place];
      for (int i = 1; i < kRows; ++i) total = Op{}(total, shared[i][place]);
      const int64_t at = kb * ax.d + mine;
      land_result(y, partial, at, split * ax.outputs() + at, total, scale, write);
    }
    __syncthreads();
  }
}

// d = 1. grid: (k*b, splits), the first gone round. kWidth > 1 where a range is dense and lies on 16 bytes.
template <class Op, int kWidth, class T>
__global__ void __launch_bounds__(kBlock)
    reduce_rows_kernel(const T* x, T* y, Compute<T>* partial, Geometry g, Compute<T> scale, Write write) {
  using C = Compute<T>;
  __shared__ C shared[32];
  const ReduceAxes& ax = g.axes;
  const int64_t split = blockIdx.y;
  // Splits begin at whole groups.
  const int64_t groups = ax.reduced() / kWidth;
  const int64_t begin = groups * split / g.splits, end = groups * (split + 1) / g.splits;
  for (int64_t kb = blockIdx.x; kb < ax.k * ax.b; kb += gridDim.x) {
    C acc = identity<Op, C>();
    Walk at(g, kb, (begin + threadIdx.x) * kWidth, 0);
    for (int64_t i = begin + threadIdx.x; i < end; i += kBlock, at.next(g)) {
      const Values<kWidth, T> v = load_values<kWidth>(x + at.offset());
#pragma unroll
      for (int k = 0; k < kWidth; ++k) acc = Op{}(acc, v.v[k]);
    }
    if constexpr (kWidth > 1) {  // dense: one range of a = 1
      const int64_t i = groups * kWidth + threadIdx.x;
      if (split == g.splits - 1 && i < ax.reduced()) acc = Op{}(acc, to_float(x[kb * ax.reduced() + i]));
    }
    acc = block_reduce<Op>(acc, identity<Op, C>(), shared);
    if (threadIdx.x == 0) land_result(y, partial, kb, split * ax.outputs() + kb, acc, scale, write);
  }
}

// y[i] = scale * partial[0][i] op partial[1][i] ...
template <class Op, class T>
__global__ void __launch_bounds__(kBlock) join_splits_kernel(const Compute<T>* partial, T* y, int64_t outputs,
                                                             int64_t splits, Compute<T> scale, Write write) {
  for (int64_t i = grid_start(); i < outputs; i += grid_stride()) {
    Compute<T> acc = partial[i];
    for (int64_t s = 1; s < splits; ++s) acc = Op{}(acc, partial[s * outputs + i]);
    land_values<1>(y + i, Values<1, T>{{scale * acc}}, write);
  }
}

// Blocks without splits, and splits: enough for 4 blocks of 256 threads on each of 132 SMs (H100), none with
// less than 8192 elements, below which a block's start outweighs its reads. Shapes alone decide, so that
// every device adds in the same order.
constexpr int64_t kWantedBlocks = 132 * 4, kLeastElements = 8192, kWarp = 32;
int64_t splits_of(const ReduceAxes& ax) {
  const int64_t blocks = ax.k * ax.b * ((ax.d + kWarp - 1) / kWarp);  // a tile has about a warp of columns
  const int64_t per_block = ax.reduced() * std::min(ax.d, kWarp);
  return std::clamp<int64_t>(
      std::min(kWantedBlocks / std::max<int64_t>(blocks, 1), per_block / kLeastElements), 1, kWantedBlocks);
}

constexpr int64_t kMostGridY = 65535;  // CUDA C++ Programming Guide, "Technical Specifications"

// The first pass: into y, or, with `partial`, into the splits' results.
template <class Op, class T>
struct FirstPass {
  cudaStream_t stream;
  const T* x;
  T* y;
  Compute<T>* partial;  // [splits][outputs] or null
  ReduceAxes ax;
  int64_t splits;
  Compute<T> scale;
  Write write;

  template <int kLanes, int kWidth>
  Status columns() const {
    constexpr int kColumns = kLanes * kWidth;
    const dim3 grid(static_cast<unsigned>((ax.d + kColumns - 1) / kColumns),
                    static_cast<unsigned>(std::min(ax.k * ax.b, kMostGridY)), static_cast<unsigned>(splits));
    return launch(reduce_columns_kernel<Op, kLanes, kWidth, T>, grid, dim3(kBlock), 0, stream, x, y, partial,
                  geometry(ax, splits, kBlock / kLanes), scale, write);
  }
  template <int kWidth>
  Status rows() const {
    const dim3 grid(grid_for(ax.k * ax.b, 1), static_cast<unsigned>(splits));
    return launch(reduce_rows_kernel<Op, kWidth, T>, grid, dim3(kBlock), 0, stream, x, y, partial,
                  geometry(ax, splits, kBlock * kWidth), scale, write);
  }
  Status run() const {
    if (ax.d > 1)  // wide: 8 lanes move 128 bytes of a row
      return aligned(x, 16) && ax.d % kWide<T> == 0 ? columns<8, kWide<T>>() : columns<32, 1>();
    const bool dense = ax.a == 1 && aligned(x, 16) && (ax.k * ax.b == 1 || ax.c % kWide<T> == 0);
    return dense ? rows<kWide<T>>() : rows<1>();
  }
};

template <class Op, class T>
Status reduce_of(cudaStream_t stream, const Reduce& args) {
  using C = Compute<T>;
  const ReduceAxes ax = reduce_axes(args.x.shape, args.y.shape);
  const int64_t splits = splits_of(ax);
  C* partial = splits > 1 ? static_cast<C*>(args.scratch) : nullptr;
  const C scale = args.op == ReduceOp::sum ? static_cast<C>(args.scale) : C(1);
  Status first =
      FirstPass<Op, T>{stream, args.x.as<T>(), args.y.as<T>(), partial, ax, splits, scale, args.write}.run();
  if (!first.ok() || !partial) return first;
  return launch(join_splits_kernel<Op, T>, dim3(grid_for(ax.outputs())), dim3(kBlock), 0, stream, partial,
                args.y.as<T>(), ax.outputs(), splits, scale, args.write);
}

template <class T>
struct ZeroOf {
  T* y;  // [n]
  template <int kWidth>
  __device__ void run(int64_t i) const {
    land_values(y + i, Values<kWidth, T>{}, Write::assign);
  }
};

Status reduce_cuda(const Queue& q, const Reduce& args) {
  if (args.y.numel() == 0) return {};
  return with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) -> Status {
    if (args.x.numel() == 0)  // an empty sum is 0; an empty maximum is refused by the engine
      return args.write == Write::add
                 ? Status()
                 : launch_elementwise<1>(stream_of(q), args.y.numel(), false, ZeroOf<T>{args.y.as<T>()});
    return args.op == ReduceOp::sum ? reduce_of<Sum, T>(stream_of(q), args)
                                    : reduce_of<Max, T>(stream_of(q), args);
  });
}

std::size_t reduce_scratch(const Queue&, const Reduce& args) {
  if (args.x.numel() == 0) return 0;
  const ReduceAxes ax = reduce_axes(args.x.shape, args.y.shape);
  const int64_t splits = splits_of(ax);
  if (splits == 1) return 0;
  return static_cast<std::size_t>(splits * ax.outputs()) *
         (args.dtype() == DType::f64 ? sizeof(double) : sizeof(float));
}

// Counts the winners of each output, then shares dy among them. A NaN equals a NaN here. kLanes threads along
// d, the others along the reduced range; kLanes = 1 for d = 1. grid: (column tiles, k*b gone round).
template <int64_t kLanes, class T>
__global__ void __launch_bounds__(kBlock)
    reduce_max_backward_kernel(const T* x, const T* y, const T* dy, T* dx, Geometry g, Write write) {
  using C = Compute<T>;
  constexpr int kThreadRows = kBlock / kLanes;
  const ReduceAxes& ax = g.axes;
  __shared__ unsigned counts[kThreadRows][kLanes];
  const int lane = static_cast<int>(threadIdx.x) % kLanes, row = static_cast<int>(threadIdx.x) / kLanes;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kLanes + lane;
  const bool inside = column < ax.d;
  for (int64_t kb = blockIdx.y; kb < ax.k * ax.b; kb += gridDim.y) {
    const C largest = inside ? to_float(y[kb * ax.d + column]) : C(0);
    const auto wins = [&](C v) { return v == largest || (v != v && largest != largest); };
    unsigned count = 0;
    if (inside) {
      Walk at(g, kb, row, column);
      for (int64_t r = row; r < ax.reduced(); r += kThreadRows, at.next(g))
        count += wins(to_float(x[at.offset()]));
    }
    counts[row][lane] = count;
    __syncthreads();
    for (int half = kThreadRows / 2; half > 0; half /= 2) {
      if (row < half) counts[row][lane] += counts[row + half][lane];
      __syncthreads();
    }
    if (inside) {
      const C share = to_float(dy[kb * ax.d + column]) / static_cast<C>(counts[0][lane]);
      Walk at(g, kb, row, column);
      for (int64_t r = row; r < ax.reduced(); r += kThreadRows, at.next(g)) {
        const C v = to_float(x[at.offset()]);
        land_values<1>(dx + at.offset(), Values<1, T>{{wins(v) ? share : C(0)}}, write);
      }
    }
    __syncthreads();
  }
}

Status reduce_max_backward_cuda(const Queue& q, const ReduceMaxBackward& args) {
  if (args.x.numel() == 0) return {};
  const ReduceAxes ax = reduce_axes(args.x.shape, args.y.shape);
  return with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) {
    const int64_t lanes = ax.d > 1 ? kWarp : 1;
    const dim3 grid(static_cast<unsigned>((ax.d + lanes - 1) / lanes),
                    static_cast<unsigned>(std::min(ax.k * ax.b, kMostGridY)));
    return launch(ax.d > 1 ? reduce_max_backward_kernel<kWarp, T> : reduce_max_backward_kernel<1, T>, grid,
                  dim3(kBlock), 0, stream_of(q), args.x.as<T>(), args.y.as<T>(), args.dy.as<T>(),
                  args.dx.as<T>(), geometry(ax, 1, static_cast<int64_t>(kBlock) / lanes), args.write);
  });
}

// Squares in double: a float's square cannot overflow there, and the sum needs no care.
// partial[block] = sum of the squares that its threads met.
template <int kWidth, class T>
__global__ void __launch_bounds__(kBlock) sum_of_squares_kernel(const T* x, double* partial, int64_t n) {
  __shared__ double shared[32];
  const int64_t whole = n / kWidth * kWidth;
  double acc = 0;
  const auto add = [&](Compute<T> v) {
    const double d = static_cast<double>(v);
    acc = fma(d, d, acc);
  };
  for (int64_t i = grid_start() * kWidth; i < whole; i += grid_stride() * kWidth) {
    const Values<kWidth, T> v = load_values<kWidth>(x + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) add(v.v[k]);
  }
  if constexpr (kWidth > 1) {
    const int64_t i = whole + grid_start();
    if (i < n) add(to_float(x[i]));
  }
  acc = block_reduce<Sum>(acc, 0.0, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = acc;
}
__global__ void __launch_bounds__(kBlock) norm_kernel(const double* partial, int parts, float* norm) {
  __shared__ double shared[32];
  double acc = 0;
  for (int i = static_cast<int>(threadIdx.x); i < parts; i += static_cast<int>(kBlock)) acc += partial[i];
  acc = block_reduce<Sum>(acc, 0.0, shared);
  if (threadIdx.x == 0) norm[0] = static_cast<float>(sqrt(acc));
}

// Parts by size alone, 16 bytes a thread and turn.
unsigned norm_parts(const L2Norm& args) {
  const int64_t per_access = 16 / static_cast<int64_t>(size_of(args.dtype()));
  return std::max(1u, grid_for((args.x.numel() + per_access - 1) / per_access, kBlock, kWantedBlocks));
}

Status l2_norm_cuda(const Queue& q, const L2Norm& args) {
  const auto parts = norm_parts(args);
  auto* const partial = static_cast<double*>(args.scratch);  // [parts]
  const Status status = with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) {
    const T* x = args.x.as<T>();
    return launch(aligned(x, 16) ? sum_of_squares_kernel<kWide<T>, T> : sum_of_squares_kernel<1, T>,
                  dim3(parts), dim3(kBlock), 0, stream_of(q), x, partial, args.x.numel());
  });
  if (!status.ok()) return status;
  return launch(norm_kernel, dim3(1), dim3(kBlock), 0, stream_of(q), partial, static_cast<int>(parts),
                args.norm.as<float>());
}

std::size_t l2_norm_scratch(const Queue&, const L2Norm& args) { return norm_parts(args) * sizeof(double); }

const FillCuda kReduce{reduce, &reduce_cuda, &reduce_scratch};
const FillCuda kReduceMaxBackward{reduce_max_backward, &reduce_max_backward_cuda};
const FillCuda kL2Norm{l2_norm, &l2_norm_cuda, &l2_norm_scratch};

}  // namespace
}  // namespace cairn::kernels
