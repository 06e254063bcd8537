// Casts, fills and strided copies of kernels/pointwise.h.
#include <limits>
#include <numeric>

#include "kernels/pointwise.h"
#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

constexpr DType kFloating[] = {DType::f32, DType::f64, DType::bf16, DType::f16};
constexpr DType kAll[] = {DType::f32, DType::f64, DType::bf16, DType::f16, DType::u8, DType::i32, DType::i64};

// The value of a binary format with `digits` significant bits and smallest exponent `low` nearest to v, ties
// to even; std::nearbyint rounds so.
double nearest(double v, int digits, int low, double largest) {
  if (std::isnan(v) || std::isinf(v) || v == 0) return v;
  int exponent = 0;
  std::frexp(v, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - digits, low));
  const double r = std::nearbyint(v / unit) * unit;
  return std::abs(r) > largest ? std::copysign(std::numeric_limits<double>::infinity(), v) : r;
}
double nearest(double v, DType t) {
  switch (t) {
    case DType::bf16:
      return nearest(v, 8, -133, 0x1.FEp127);
    case DType::f16:
      return nearest(v, 11, -24, 65504);
    case DType::f32:
      return nearest(v, 24, -149, 0x1.FFFFFEp127);
    default:
      return v;
  }
}

TEST(Cast, RoundsToNearestEvenBetweenAllPairs) {
  std::vector<double> values = {0,
                                -0.0,
                                1,
                                -1,
                                65504,
                                65519.999,
                                65520,
                                1e-8,
                                6e-8,
                                -3e-8,
                                1e-40,
                                1e-46,
                                3.4e38,
                                3.5e38,
                                1e300,
                                -1e300,
                                1.00390625,
                                1.01171875,
                                1.0048828125,
                                2049,
                                2051,
                                std::numeric_limits<double>::infinity(),
                                std::nan("")};
  // Just beside the ties of bf16 and fp16: a double that is rounded twice goes the wrong way.
  for (double tie : {1.00390625, 1.01171875, 1.00048828125, 1.00146484375})
    for (double off : {-0x1p-40, 0x1p-40}) values.push_back(tie + off);
  for (double v : grid_values(2000, 1, -70000, 70000)) values.push_back(v);
  for (double v : grid_values(2000, 2, -1e-4, 1e-4)) values.push_back(v);
  const Shape shape{static_cast<std::int64_t>(values.size())};
  for (DType from : kFloating)
    for (DType to : kFloating) {
      Buffer x(from, shape);
      for (std::int64_t i = 0; i < x.numel(); ++i) {
        const double v = nearest(values[static_cast<std::size_t>(i)], from);
        x.set(i, v);
        ASSERT_TRUE(std::isnan(v) || x.at(i) == v) << v;
      }
      Buffer y(to, shape);
      run(cast, {x.in(), y.view()});
      std::vector<double> want;
      for (double v : x.values()) want.push_back(nearest(v, to));
      expect_close(y, want, 0, 0, std::string(name_of(from)) + " to " + name_of(to));
    }
}

TEST(Cast, AddsAndServesEmpty) {
  for (DType from : kFloating)
    for (DType to : kFloating)
      for (std::int64_t n : kLengths) {
        const Buffer x = grid(from, {n}, 3);
        Buffer y = grid(to, {n}, 4);
        std::vector<double> want = y.values();
        for (std::int64_t i = 0; i < n; ++i) want[static_cast<std::size_t>(i)] += x.at(i);
        run(cast, {x.in(), y.view(), Write::add});
        const double float_sum = from == DType::f64 || to == DType::f64 ? 0 : 0x1p-24;
        expect_close(y, want, rounding_of(to) + float_sum, 0,
                     std::string(name_of(from)) + " to " + name_of(to));
      }
}

TEST(FillValue, EveryDType) {
  for (DType t : kAll)
    for (std::int64_t n : kLengths)
      for (double value : {0.0, 3.0, 200.0}) {
        Buffer y(t, {n});
        run(fill_value, {y.view(), value});
        expect_close(y, std::vector<double>(static_cast<std::size_t>(n), value), 0, 0, name_of(t));
      }
}

// The definition, element by element, on whole numbers that every dtype holds.
std::vector<double> copied(const StridedCopy& a, const Buffer& x, std::vector<double> y) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(a.shape.rank), 0);
  for (std::int64_t k = 0; k < a.shape.numel(); ++k) {
    std::int64_t from = a.offset_x, to = a.offset_y, rest = k;
    for (int i = a.shape.rank - 1; i >= 0; --i) {
      from += rest % a.shape[i] * a.stride_x[i];
      to += rest % a.shape[i] * a.stride_y[i];
      rest /= a.shape[i];
    }
    double& out = y[static_cast<std::size_t>(to)];
    out = (a.write == Write::add ? out : 0) + x.at(from);
  }
  return y;
}

Shape dense_strides(const Shape& s) {
  Shape strides = s;
  std::int64_t size = 1;
  for (int i = s.rank - 1; i >= 0; --i) {
    strides[i] = size;
    size *= s[i];
  }
  return strides;
}

void check_copy(DType t, StridedCopy a, std::int64_t size_x, std::int64_t size_y, const std::string& what) {
  Buffer x(t, {size_x}), start(t, {size_y});
  for (std::int64_t i = 0; i < size_x; ++i) x.set(i, static_cast<double>(i * 7 % 61));
  for (std::int64_t i = 0; i < size_y; ++i) start.set(i, static_cast<double>(i % 53));
  for (Write write : {Write::assign, Write::add}) {
    Buffer y = start.copy();
    a.x = x.in();
    a.y = y.view();
    a.write = write;
    run(strided_copy, a);
    expect_close(y, copied(a, x, start.values()), 0, 0, what + " " + name_of(t));
  }
}

TEST(StridedCopy, EveryPermutation) {
  for (const Shape& s : {Shape{2, 3, 4, 5}, Shape{1, 33, 65, 3}, Shape{3, 40, 1, 70}}) {
    std::vector<int> order = {0, 1, 2, 3};
    do {
      StridedCopy a;
      const Shape from = dense_strides(s);
      a.stride_x = a.shape = s;
      for (int i = 0; i < 4; ++i) {
        a.shape[i] = s[order[static_cast<std::size_t>(i)]];
        a.stride_x[i] = from[order[static_cast<std::size_t>(i)]];
      }
      a.stride_y = dense_strides(a.shape);
      for (DType t : kAll) check_copy(t, a, s.numel(), s.numel(), "permutation of " + to_string(s));
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

TEST(StridedCopy, SlicesRepeatsAndReversals) {
  for (DType t : kAll) {
    StridedCopy slice;  // [4,6,8] out of [5,9,10] into [7,6,20]
    slice.shape = {4, 6, 8};
    slice.stride_x = {90, 10, 1};
    slice.stride_y = {120, 20, 1};
    slice.offset_x = 1 * 90 + 2 * 10 + 1;
    slice.offset_y = 2 * 120 + 12;
    check_copy(t, slice, 450, 840, "slice");
    StridedCopy repeat;  // a row of x for every row of y
    repeat.shape = {50, 37};
    repeat.stride_x = {0, 1};
    repeat.stride_y = {37, 1};
    check_copy(t, repeat, 37, 50 * 37, "repeat");
    StridedCopy reverse;
    reverse.shape = {40, 30};
    reverse.stride_x = {30, -1};
    reverse.stride_y = {30, 1};
    reverse.offset_x = 29;
    check_copy(t, reverse, 1200, 1200, "reverse");
    StridedCopy spread;  // every other element of y
    spread.shape = {3, 35};
    spread.stride_x = {35, 1};
    spread.stride_y = {70, 2};
    check_copy(t, spread, 105, 210, "spread");
    StridedCopy empty;
    empty.shape = {0, 3};
    empty.stride_x = empty.stride_y = {3, 1};
    check_copy(t, empty, 3, 3, "empty");
    StridedCopy one;
    one.offset_x = 2;
    check_copy(t, one, 3, 3, "scalar");
    StridedCopy large;  // transposed across threads
    large.shape = {190, 210};
    large.stride_x = {1, 190};
    large.stride_y = {210, 1};
    check_copy(t, large, 190 * 210, 190 * 210, "transpose");
  }
}

}  // namespace
}  // namespace cairn::kernels
