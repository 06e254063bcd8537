#include "kernels/gemm.h"

#include "tests/kernels/sums.h"

namespace cairn::kernels {
namespace {

/// y [B,M,N] = a [B,M,K] b [B,K,N] in double, and the root of the sum of squares of the terms.
struct Oracle {
  std::vector<double> y, norm;
};
template <class A, class B>
Oracle multiply(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, A&& a, B&& b) {
  Oracle o;
  for (std::int64_t i = 0; i < batch; ++i)
    for (std::int64_t row = 0; row < m; ++row)
      for (std::int64_t column = 0; column < n; ++column) {
        double sum = 0, squares = 0;
        for (std::int64_t l = 0; l < k; ++l) {
          const double term = a(i, row, l) * b(i, l, column);
          sum += term;
          squares += term * term;
        }
        o.y.push_back(sum);
        o.norm.push_back(std::sqrt(squares));
      }
  return o;
}

void expect_product(const Buffer& got, const std::vector<double>& want, const Oracle& o, DType out,
                    std::int64_t length, const std::string& what) {
  expect_within(
      got, want,
      [&](std::size_t i) { return sum_tolerance(out, want[i], o.norm[i] + 2, static_cast<double>(length)); },
      what);
}

struct Sizes {
  std::int64_t n, c, k;
};
class LinearTest : public ::testing::TestWithParam<std::tuple<Sizes, DType>> {
 protected:
  Sizes s = std::get<0>(GetParam());
  DType dtype = std::get<1>(GetParam());
  Shape xs{s.n, s.c}, ws{s.k, s.c}, ys{s.n, s.k};
  std::vector<double> x = random_values(dtype, xs, 1), w = random_values(DType::f32, ws, 2),
                      dy = random_values(dtype, ys, 3);
  double at(const std::vector<double>& v, std::int64_t row, std::int64_t column, std::int64_t columns) const {
    return v[static_cast<std::size_t>(row * columns + column)];
  }
  double weight(std::int64_t k, std::int64_t c) const { return rounded(dtype, at(w, k, c, s.c)); }
};

TEST_P(LinearTest, Forward) {
  const Oracle o = multiply(
      1, s.n, s.k, s.c, [&](auto, auto n, auto c) { return at(x, n, c, s.c); },
      [&](auto, auto c, auto k) { return weight(k, c); });
  const std::vector<double> bias = random_values(DType::f32, {s.k}, 4);
  const Buffer xb(dtype, xs, x), wb(DType::f32, ws, w), bb(DType::f32, {s.k}, bias);
  for (int variant = 0; variant < 4; ++variant) {
    std::vector<double> want = o.y;
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (variant & 1) want[i] += bias[i % bias.size()];
      if (variant & 2) want[i] = std::max(want[i], 0.0);
    }
    Buffer y(dtype, ys), again(dtype, ys);
    for (Buffer* out : {&y, &again})
      run(linear_forward, {.x = xb.in(),
                           .w = wb.in(),
                           .bias = variant & 1 ? bb.in() : ConstView{},
                           .y = out->view(),
                           .activation = variant & 2 ? Activation::relu : Activation::none});
    expect_product(y, want, o, dtype, s.c, "linear forward, variant " + std::to_string(variant));
    EXPECT_TRUE(y.same_bits(again)) << "two runs differ";
  }
}

TEST_P(LinearTest, BackwardData) {
  const Oracle o = multiply(
      1, s.n, s.c, s.k, [&](auto, auto n, auto k) { return at(dy, n, k, s.k); },
      [&](auto, auto k, auto c) { return weight(k, c); });
  const std::vector<double> before = random_values(dtype, xs, 5);
  const Buffer dyb(dtype, ys, dy), wb(DType::f32, ws, w);
  for (const Write write : {Write::assign, Write::add}) {
    Buffer dx(dtype, xs, before);
    run(linear_backward_data, {.dy = dyb.in(), .w = wb.in(), .dx = dx.view(), .write = write});
    expect_product(dx, write == Write::add ? added(o.y, before) : o.y, o, dtype, s.k, "linear dgrad");
  }
}

TEST_P(LinearTest, BackwardWeight) {
  const Oracle o = multiply(
      1, s.k, s.c, s.n, [&](auto, auto k, auto n) { return at(dy, n, k, s.k); },
      [&](auto, auto n, auto c) { return at(x, n, c, s.c); });
  const std::vector<double> before = random_values(DType::f32, ws, 6);
  const std::vector<double> bias_before = random_values(DType::f32, {s.k}, 7);
  std::vector<double> bias_sum(static_cast<std::size_t>(s.k));
  for (std::size_t i = 0; i < dy.size(); ++i) bias_sum[i % bias_sum.size()] += dy[i];
  const Buffer xb(dtype, xs, x), dyb(dtype, ys, dy);
  for (const Write write : {Write::assign, Write::add}) {
    for (const Write bias_write : {Write::assign, Write::add}) {
      Buffer dw(DType::f32, ws, before), dbias(DType::f32, {s.k}, bias_before);
      run(linear_backward_weight, {.x = xb.in(),
                                   .dy = dyb.in(),
                                   .dw = dw.view(),
                                   .dbias = dbias.view(),
                                   .write = write,
                                   .dbias_write = bias_write});
      expect_product(dw, write == Write::add ? added(o.y, before) : o.y, o, DType::f32, s.n, "linear wgrad");
      const std::vector<double> want = bias_write == Write::add ? added(bias_sum, bias_before) : bias_sum;
      const double norm = std::sqrt(static_cast<double>(s.n)) + 1;
      expect_within(
          dbias, want,
          [&](std::size_t i) { return sum_tolerance(DType::f32, want[i], norm, static_cast<double>(s.n)); },
          "linear dbias");
    }
  }
  Buffer dw(DType::f32, ws);
  run(linear_backward_weight, {.x = xb.in(), .dy = dyb.in(), .dw = dw.view(), .dbias = {}});
  expect_product(dw, o.y, o, DType::f32, s.n, "linear wgrad without a bias");
}

INSTANTIATE_TEST_SUITE_P(Cases, LinearTest,
                         ::testing::Combine(::testing::Values(Sizes{4, 64, 10}, Sizes{1, 1, 1},
                                                              Sizes{3, 33, 7}, Sizes{32, 512, 7},
                                                              Sizes{5, 1000, 65}),
                                            ::testing::Values(DType::f32, DType::bf16)),
                         [](const auto& tested) {
                           const Sizes& s = std::get<0>(tested.param);
                           return "n" + std::to_string(s.n) + "c" + std::to_string(s.c) + "k" +
                                  std::to_string(s.k) + "_" + name_of(std::get<1>(tested.param));
                         });

class MatmulTest : public ::testing::TestWithParam<DType> {};

TEST_P(MatmulTest, EveryTransposeBatchAndWrite) {
  const DType dtype = GetParam();
  const std::int64_t m = 5, n = 19, k = 33;
  for (int variant = 0; variant < 32; ++variant) {
    const bool ta = variant & 1, tb = variant & 2;
    const Write write = variant & 4 ? Write::add : Write::assign;
    const std::int64_t batch_a = variant & 8 ? 1 : 3, batch_b = variant & 16 ? 1 : 3;
    const std::int64_t batch = std::max(batch_a, batch_b);
    const Shape as = ta ? Shape{batch_a, k, m} : Shape{batch_a, m, k};
    const Shape bs = tb ? Shape{batch_b, n, k} : Shape{batch_b, k, n};
    const Shape ys{batch, m, n};
    const std::vector<double> a = random_values(dtype, as, 1), b = random_values(dtype, bs, 2),
                              before = random_values(dtype, ys, 3);
    const auto pick = [](const std::vector<double>& v, const Shape& s, std::int64_t i, std::int64_t row,
                         std::int64_t column) {
      return v[static_cast<std::size_t>(((s[0] == 1 ? 0 : i) * s[1] + row) * s[2] + column)];
    };
    const Oracle o = multiply(
        batch, m, n, k,
        [&](auto i, auto row, auto l) { return ta ? pick(a, as, i, l, row) : pick(a, as, i, row, l); },
        [&](auto i, auto l, auto column) {
          return tb ? pick(b, bs, i, column, l) : pick(b, bs, i, l, column);
        });
    const Buffer ab(dtype, as, a), bb(dtype, bs, b);
    Buffer y(dtype, ys, before);
    run(matmul,
        {.a = ab.in(), .b = bb.in(), .y = y.view(), .transpose_a = ta, .transpose_b = tb, .write = write});
    expect_product(y, write == Write::add ? added(o.y, before) : o.y, o, dtype, k,
                   "matmul, variant " + std::to_string(variant));
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, MatmulTest, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

}  // namespace
}  // namespace cairn::kernels
