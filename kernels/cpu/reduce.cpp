#include "kernels/reduce.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/axes.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

// Terms are summed in blocks of this many rows or vectors, then the blocks: the error grows with
// kBlock + length / kBlock instead of length.
constexpr std::int64_t kBlock = 128;

struct Sum {
  template <class D>
  static HWY_INLINE hn::Vec<D> start(D d) {
    return hn::Zero(d);
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> join(D, hn::Vec<D> a, hn::Vec<D> v) {
    return hn::Add(a, v);
  }
  template <class C>
  static HWY_INLINE C join_one(C a, C v) {
    return a + v;
  }
};
// A NaN wins over everything, whichever comes first.
struct Max {
  template <class D>
  static HWY_INLINE hn::Vec<D> start(D d) {
    return hn::Set(d, -std::numeric_limits<hn::TFromD<D>>::infinity());
  }
  template <class D>
  static HWY_INLINE hn::Vec<D> join(D, hn::Vec<D> a, hn::Vec<D> v) {
    return hn::IfThenElse(hn::Or(hn::Gt(v, a), hn::IsNaN(v)), v, a);
  }
  template <class C>
  static HWY_INLINE C join_one(C a, C v) {
    return (v > a || v != v) ? v : a;
  }
};

// x[0..n) down to one number.
template <class Op, class T>
ComputeOf<T> reduce_dense(const T* x, std::int64_t n) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  const std::int64_t w = lanes<T>();
  auto total = Op::start(d);
  std::int64_t i = 0;
  while (i + w <= n) {
    // Four sums hide the adder's latency.
    auto s0 = Op::start(d), s1 = s0, s2 = s0, s3 = s0;
    const std::int64_t stop = std::min(n, i + 4 * kBlock * w);
    for (; i + 4 * w <= stop; i += 4 * w) {
      s0 = Op::join(d, s0, load(d, x + i));
      s1 = Op::join(d, s1, load(d, x + i + w));
      s2 = Op::join(d, s2, load(d, x + i + 2 * w));
      s3 = Op::join(d, s3, load(d, x + i + 3 * w));
    }
    for (; i + w <= stop; i += w) s0 = Op::join(d, s0, load(d, x + i));
    total = Op::join(d, total, Op::join(d, Op::join(d, s0, s1), Op::join(d, s2, s3)));
  }
  HWY_ALIGN C lane[HWY_MAX_BYTES / sizeof(C)];
  hn::Store(total, d, lane);
  C result = lane[0];
  for (std::int64_t k = 1; k < w; ++k) result = Op::join_one(result, lane[k]);
  for (; i < n; ++i) result = Op::join_one(result, to_compute(x[i]));
  return result;
}

// acc[j] = join over rows [row_begin, row_end) of x[row][j], j < columns; row r starts at x + offset(r).
template <class Op, class T, class Offset>
void reduce_rows(const T* x, std::int64_t row_begin, std::int64_t row_end, std::int64_t columns,
                 const Offset& offset, ComputeOf<T>* acc) {
  const Tag<T> d;
  const std::int64_t w = lanes<T>();
  for_each_vector(d, 0, columns,
                  [&](std::int64_t j, auto part) HWY_ATTR { store(d, Op::start(d), acc + j, part); });
  for (std::int64_t block = row_begin; block < row_end; block += kBlock) {
    const std::int64_t stop = std::min(row_end, block + kBlock);
    if (columns == 4 * w) {  // sums stay in registers
      auto s0 = Op::start(d), s1 = s0, s2 = s0, s3 = s0;
      for (std::int64_t r = block; r < stop; ++r) {
        const T* p = x + offset(r);
        s0 = Op::join(d, s0, load(d, p));
        s1 = Op::join(d, s1, load(d, p + w));
        s2 = Op::join(d, s2, load(d, p + 2 * w));
        s3 = Op::join(d, s3, load(d, p + 3 * w));
      }
      store(d, Op::join(d, load(d, acc), s0), acc);
      store(d, Op::join(d, load(d, acc + w), s1), acc + w);
      store(d, Op::join(d, load(d, acc + 2 * w), s2), acc + 2 * w);
      store(d, Op::join(d, load(d, acc + 3 * w), s3), acc + 3 * w);
      continue;
    }
    // Row after row, as memory lies; the block's sums live in the first cache.
    HWY_ALIGN ComputeOf<T> sum[kReduceColumns];
    for_each_vector(d, 0, columns,
                    [&](std::int64_t j, auto part) HWY_ATTR { store(d, Op::start(d), sum + j, part); });
    for (std::int64_t r = block; r < stop; ++r) {
      const T* p = x + offset(r);
      for_each_vector(d, 0, columns, [&](std::int64_t j, auto part) HWY_ATTR {
        store(d, Op::join(d, load(d, sum + j, part), load(d, p + j, part)), sum + j, part);
      });
    }
    for_each_vector(d, 0, columns, [&](std::int64_t j, auto part) HWY_ATTR {
      store(d, Op::join(d, load(d, acc + j, part), load(d, sum + j, part)), acc + j, part);
    });
  }
}

// One task's result for its columns, over the piece [begin, end) of the flattened reduced range a*c.
template <class Op, class T>
void reduce_task(const ReduceAxes& ax, const T* x, std::int64_t k, std::int64_t b, std::int64_t column,
                 std::int64_t columns, std::int64_t begin, std::int64_t end, ComputeOf<T>* acc) {
  const auto offset = [&](std::int64_t r) {
    return (((k * ax.a + r / ax.c) * ax.b + b) * ax.c + r % ax.c) * ax.d + column;
  };
  if (ax.d > 1) {
    if (ax.a == 1) {  // no division a row
      const T* first = x + offset(0);
      reduce_rows<Op>(
          first, begin, end, columns, [&](std::int64_t r) { return r * ax.d; }, acc);
    } else {
      reduce_rows<Op>(x, begin, end, columns, offset, acc);
    }
    return;
  }
  bool first = true;
  for (std::int64_t r = begin; r < end;) {
    const std::int64_t n = std::min(end - r, ax.c - r % ax.c);
    const ComputeOf<T> v = reduce_dense<Op>(x + offset(r), n);
    acc[0] = first ? v : Op::join_one(acc[0], v);
    first = false;
    r += n;
  }
}

template <class T>
void land_result(const Reduce& args, const ComputeOf<T>* acc, T* y, std::int64_t n) {
  const Tag<T> d;
  const auto scale =
      hn::Set(d, static_cast<hn::TFromD<decltype(d)>>(args.op == ReduceOp::sum ? args.scale : 1.0));
  for_each_vector(d, 0, n, [&](std::int64_t j, auto part) HWY_ATTR {
    land(d, hn::Mul(scale, load(d, acc + j, part)), y + j, part, args.write);
  });
}

template <class Op, class T>
void reduce_of(const Reduce& args) {
  using C = ComputeOf<T>;
  const ReducePlan p = reduce_plan(args.x.shape, args.y.shape);
  const ReduceAxes& ax = p.axes;
  auto* const partial = static_cast<C*>(args.scratch);  // [splits][k][b][d]
  const std::int64_t per_task = ax.reduced() * ax.outputs() / std::max<std::int64_t>(p.tasks(), 1);
  const std::int64_t grain =
      std::max<std::int64_t>(1, kReduceTaskElements / std::max<std::int64_t>(per_task, 1));
  parallel_for(p.tasks(), grain, [&](std::int64_t task_begin, std::int64_t task_end, int) HWY_ATTR {
    HWY_ALIGN C acc[kReduceColumns];
    for (std::int64_t t = task_begin; t < task_end; ++t) {
      const std::int64_t split = t % p.splits;
      const std::int64_t column = t / p.splits % p.column_blocks * kReduceColumns;
      const std::int64_t kb = t / p.splits / p.column_blocks;
      const std::int64_t columns = std::min(kReduceColumns, ax.d - column);
      reduce_task<Op>(ax, args.x.as<T>(), kb / ax.b, kb % ax.b, column, columns,
                      ax.reduced() * split / p.splits, ax.reduced() * (split + 1) / p.splits, acc);
      const std::int64_t out = kb * ax.d + column;
      if (p.splits == 1)
        land_result(args, acc, args.y.as<T>() + out, columns);
      else
        std::copy(acc, acc + columns, partial + split * ax.outputs() + out);
    }
  });
  if (p.splits == 1) return;
  for (std::int64_t s = 1; s < p.splits; ++s)
    for (std::int64_t i = 0; i < ax.outputs(); ++i)
      partial[i] = Op::join_one(partial[i], partial[s * ax.outputs() + i]);
  land_result(args, partial, args.y.as<T>(), ax.outputs());
}

Status reduce_cpu(const Queue&, const Reduce& args) {
  if (args.y.numel() == 0) return {};
  with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) {
    if (args.x.numel() == 0) {  // an empty sum is 0; an empty maximum is refused by the engine
      if (args.write == Write::assign)
        std::fill(args.y.as<T>(), args.y.as<T>() + args.y.numel(), T(ComputeOf<T>(0)));
      return;
    }
    if (args.op == ReduceOp::sum)
      reduce_of<Sum, T>(args);
    else
      reduce_of<Max, T>(args);
  });
  return {};
}
// Counts the winners of each output, then shares dy among them. A NaN equals a NaN here.
template <class T>
void reduce_max_backward_of(const ReduceMaxBackward& args) {
  using C = ComputeOf<T>;
  const ReduceAxes ax = reduce_axes(args.x.shape, args.y.shape);
  const std::int64_t column_blocks = (ax.d + kReduceColumns - 1) / kReduceColumns;
  const std::int64_t per_task = ax.reduced() * std::min(ax.d, kReduceColumns);
  parallel_for(ax.k * ax.b * column_blocks, std::max<std::int64_t>(1, kReduceTaskElements / per_task),
               [&](std::int64_t task_begin, std::int64_t task_end, int) HWY_ATTR {
                 const Tag<T> d;
                 // An int of the compute type's size counts exactly what a float could not beyond 2^24.
                 using Count = hwy::MakeSigned<C>;
                 HWY_ALIGN Count count[kReduceColumns];
                 HWY_ALIGN C share[kReduceColumns];
                 for (std::int64_t t = task_begin; t < task_end; ++t) {
                   const std::int64_t column = t % column_blocks * kReduceColumns, kb = t / column_blocks;
                   const std::int64_t columns = std::min(kReduceColumns, ax.d - column);
                   const T* y = args.y.as<T>() + kb * ax.d + column;
                   const T* dy = args.dy.as<T>() + kb * ax.d + column;
                   const auto offset = [&](std::int64_t r) {
                     return (((kb / ax.b * ax.a + r / ax.c) * ax.b + kb % ax.b) * ax.c + r % ax.c) * ax.d +
                            column;
                   };
                   std::fill(count, count + columns, Count{0});
                   const auto wins = [](C x, C max) { return x == max || (x != x && max != max); };
                   for (std::int64_t r = 0; r < ax.reduced(); ++r) {
                     const T* x = args.x.as<T>() + offset(r);
                     for (std::int64_t j = 0; j < columns; ++j)
                       count[j] += wins(to_compute(x[j]), to_compute(y[j]));
                   }
                   for (std::int64_t j = 0; j < columns; ++j)
                     share[j] = to_compute(dy[j]) / static_cast<C>(count[j]);
                   for (std::int64_t r = 0; r < ax.reduced(); ++r) {
                     const T* x = args.x.as<T>() + offset(r);
                     T* dx = args.dx.as<T>() + offset(r);
                     for_each_vector(d, 0, columns, [&](std::int64_t j, auto part) HWY_ATTR {
                       const auto vx = load(d, x + j, part), vy = load(d, y + j, part);
                       const auto won = hn::Or(hn::Eq(vx, vy), hn::And(hn::IsNaN(vx), hn::IsNaN(vy)));
                       land(d, hn::IfThenElseZero(won, load(d, share + j, part)), dx + j, part, args.write);
                     });
                   }
                 }
               });
}
Status reduce_max_backward_cpu(const Queue&, const ReduceMaxBackward& args) {
  if (args.x.numel() == 0) return {};
  with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) { reduce_max_backward_of<T>(args); });
  return {};
}

// Squares in double: a float's square cannot overflow there, and the sum needs no blocks.
template <class T>
double sum_of_squares(const T* x, std::int64_t begin, std::int64_t end) {
  const Tag<T> d;
  const hn::ScalableTag<double> dd;
  auto s0 = hn::Zero(dd), s1 = s0;
  for_each_vector(d, begin, end, [&](std::int64_t i, auto part) HWY_ATTR {
    const auto v = load(d, x + i, part);
    if constexpr (std::is_same_v<T, double>) {
      s0 = hn::MulAdd(v, v, s0);
    } else {
      const auto low = hn::PromoteTo(dd, hn::LowerHalf(v));
      const auto high = hn::PromoteTo(dd, hn::UpperHalf(hn::Half<Tag<T>>(), v));
      s0 = hn::MulAdd(low, low, s0);
      s1 = hn::MulAdd(high, high, s1);
    }
  });
  return hn::GetLane(hn::SumOfLanes(dd, hn::Add(s0, s1)));
}

Status l2_norm_cpu(const Queue&, const L2Norm& args) {
  auto* const partial = static_cast<double*>(args.scratch);  // [parts]
  const std::int64_t n = args.x.numel();
  with_compute_type(args.dtype(), [&]<class T>(TypeTag<T>) {
    parallel_elements(n, [&](std::int64_t begin, std::int64_t end, int part) {
      partial[part] = sum_of_squares(args.x.as<T>(), begin, end);
    });
  });
  double total = 0;
  for (int i = 0; i < parallel_elements_parts(n); ++i) total += partial[i];
  args.norm.as<float>()[0] = static_cast<float>(std::sqrt(total));
  return {};
}
}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
std::size_t reduce_scratch(const Queue&, const Reduce& args) {
  const ReducePlan p = reduce_plan(args.x.shape, args.y.shape);
  if (p.splits == 1) return 0;
  return static_cast<std::size_t>(p.splits * p.axes.outputs()) *
         (args.dtype() == DType::f64 ? sizeof(double) : sizeof(float));
}
std::size_t l2_norm_scratch(const Queue&, const L2Norm& args) {
  return static_cast<std::size_t>(parallel_elements_parts(args.x.numel())) * sizeof(double);
}
CAIRN_CPU_SIMD_FILL(reduce, reduce_cpu, &reduce_scratch);
CAIRN_CPU_SIMD_FILL(reduce_max_backward, reduce_max_backward_cpu);
CAIRN_CPU_SIMD_FILL(l2_norm, l2_norm_cpu, &l2_norm_scratch);
}  // namespace
}  // namespace cairn::kernels
#endif
