// Reductions and losses beyond the sizes of the case table: split ranges, every merging of axes, many
// classes, many rows. The oracle is a plain loop in double.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/philox.h"
#include "kernels/reduce.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

using kernels::ReduceOp;
using kernels::Write;

const OwnMemory kOwnMemory;

// Multiples of 1/8 in [-4, 4): ties everywhere, and exact in every dtype.
Tensor eighths(const Shape& shape, DType dtype, std::int64_t offset = 0) {
  std::vector<double> v(static_cast<std::size_t>(shape.numel() + offset));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<double>(uniform_below(philox(11, 0, i).v[0], 64)) / 8 - 4;
  return from_doubles({shape.numel() + offset}, v, dtype, kCuda).alias(shape, offset);
}

struct Form {
  Shape x, y;
  std::int64_t offset = 0;  // of x in its memory, in elements
};
// Over all, over rows (columns few and many), over columns, over outer and inner, over the middle ones; tails
// and pointers off 16 bytes.
const Form kForms[] = {
    {{100003}, {1}},
    {{1 << 16}, {1}, 1},
    {{5000, 33}, {1, 33}},
    {{3000, 64}, {1, 64}},
    {{3000, 64}, {1, 64}, 3},
    {{2000, 40}, {1, 40}},
    {{40, 3001}, {40, 1}},
    {{40, 3008}, {40, 1}},
    {{3, 70, 5, 24}, {3, 1, 5, 1}},
    {{3, 70, 5, 24}, {1, 70, 1, 24}},
    {{3, 70, 5, 24}, {3, 1, 1, 24}},
    {{600, 7, 9, 1}, {1, 7, 1, 1}},
    {{300, 2, 1, 1}, {300, 1, 1, 1}},
};

// Index in y of element i of x.
std::int64_t output_of(const Form& f, std::int64_t i) {
  std::int64_t at = 0, stride = 1;
  for (int axis = f.x.rank - 1; axis >= 0; --axis) {
    if (f.y[axis] != 1) at += i % f.x[axis] * stride;
    i /= f.x[axis];
    stride *= f.y[axis];
  }
  return at;
}

double rounding_of(DType t) { return t == DType::f32 ? 0x1p-24 : t == DType::f16 ? 0x1p-11 : 0x1p-8; }

class EmulatedReduce : public NoReportsTest, public testing::WithParamInterface<DType> {};

TEST_P(EmulatedReduce, SumsAgreeWithALoop) {
  for (const Form& f : kForms) {
    const Tensor x = eighths(f.x, GetParam(), f.offset);
    const Tensor y = full(f.y, 0.5, GetParam(), kCuda);
    call(kernels::reduce, x.queue(), {ReduceOp::sum, x.view(), y.inplace(), 0.125, Write::add});
    std::vector<double> want(static_cast<std::size_t>(f.y.numel()), 0.0), terms = want;
    const std::vector<double> values = x.to_doubles();
    for (std::int64_t i = 0; i < f.x.numel(); ++i) {
      const auto o = static_cast<std::size_t>(output_of(f, i));
      want[o] += values[static_cast<std::size_t>(i)] / 8;
      terms[o] += 1;
    }
    const std::vector<double> got = y.to_doubles();
    for (std::size_t o = 0; o < got.size(); ++o) {
      // Eighths that sum to less than 2^24 of them: fp32 is exact, and only the landing rounds.
      ASSERT_LT(terms[o] * 4 * 8, 0x1p24);
      ASSERT_NEAR(got[o], want[o] + 0.5, rounding_of(GetParam()) * std::abs(want[o] + 0.5) + 1e-12)
          << to_string(f.x) << " to " << to_string(f.y) << " output " << o;
    }
  }
}

TEST_P(EmulatedReduce, MaximaAndTheirGradientsAgreeWithALoop) {
  for (const Form& f : kForms) {
    const Tensor x = eighths(f.x, GetParam(), f.offset), dx = empty_like(x);
    const Tensor y = empty(f.y, GetParam(), kCuda), dy = eighths(f.y, GetParam(), 5);
    call(kernels::reduce, x.queue(), {ReduceOp::max, x.view(), y.out()});
    call(kernels::reduce_max_backward, x.queue(), {x.view(), y.view(), dy.view(), dx.out()});
    const std::vector<double> values = x.to_doubles(), got = y.to_doubles(), g = dy.to_doubles();
    std::vector<double> want(got.size(), -HUGE_VAL), count(got.size(), 0.0);
    for (std::int64_t i = 0; i < f.x.numel(); ++i) {
      double& w = want[static_cast<std::size_t>(output_of(f, i))];
      w = std::max(w, values[static_cast<std::size_t>(i)]);
    }
    ASSERT_EQ(got, want) << to_string(f.x) << " to " << to_string(f.y);
    for (std::int64_t i = 0; i < f.x.numel(); ++i) {
      const auto o = static_cast<std::size_t>(output_of(f, i));
      count[o] += values[static_cast<std::size_t>(i)] == want[o];
    }
    const std::vector<double> gradient = dx.to_doubles();
    for (std::int64_t i = 0; i < f.x.numel(); ++i) {
      const auto at = static_cast<std::size_t>(i), o = static_cast<std::size_t>(output_of(f, i));
      const double share = values[at] == want[o] ? g[o] / count[o] : 0.0;
      ASSERT_NEAR(gradient[at], share, 2 * rounding_of(GetParam()) * std::abs(share))
          << to_string(f.x) << " at " << i;
    }
  }
}

TEST_P(EmulatedReduce, ANaNIsTheMaximum) {
  for (const std::int64_t at : {0, 31, 700, 9999}) {
    std::vector<double> v(10000, 1.0);
    v[static_cast<std::size_t>(at)] = std::nan("");
    const Tensor x = from_doubles({10000}, v, GetParam(), kCuda);
    EXPECT_TRUE(std::isnan(max(x, {}, false).item())) << at;
  }
}

TEST_P(EmulatedReduce, TheNormIsTakenInDouble) {
  for (const std::int64_t n : {1, 7, 8, 255, 40001}) {
    for (const std::int64_t offset : {0, 1}) {
      const Tensor x = eighths({n}, GetParam(), offset), norm = empty({1}, DType::f32, kCuda);
      call(kernels::l2_norm, x.queue(), {x.view(), norm.out()});
      double sum = 0;
      for (const double v : x.to_doubles()) sum += v * v;
      EXPECT_EQ(static_cast<float>(norm.item()), static_cast<float>(std::sqrt(sum))) << n;
    }
  }
  if (GetParam() == DType::f16) return;  // its squares stay far from float's range
  const Tensor large = full({5}, 1e25, GetParam(), kCuda), norm = empty({1}, DType::f32, kCuda);
  call(kernels::l2_norm, large.queue(), {large.view(), norm.out()});
  EXPECT_NEAR(norm.item(), std::sqrt(5.0) * 1e25, 1e25 * 0x1p-7);
}

// With smoothing one sum follows another in the same scratch.
TEST_P(EmulatedReduce, ManyClassesAndManyRows) {
  struct Case {
    std::int64_t rows, classes;
    double smoothing;
  };
  for (const auto& [rows, classes, smoothing] :
       {Case{3, 1024, 0}, Case{3, 1025, 0}, Case{2, 2500, 0}, Case{2, 1025, 0.25}, Case{700, 3, 0}}) {
    Tensor z = eighths({rows, classes}, GetParam());
    z.set_requires_grad();
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < rows; ++n)
      labels.push_back(static_cast<std::int32_t>((n * 977 + 5) % classes));
    const Tensor loss = softmax_cross_entropy(z, from_values<std::int32_t>({rows}, labels, kCuda),
                                              {.label_smoothing = static_cast<float>(smoothing)});
    loss.backward();
    const std::vector<double> values = z.to_doubles(), dz = z.grad().to_doubles();
    const std::vector<double> p = softmax(z.detach()).to_doubles();
    double want = 0;
    for (std::int64_t n = 0; n < rows; ++n) {
      const double* row = values.data() + n * classes;
      double sum = 0;
      for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(row[c]);
      const std::int32_t label = labels[static_cast<std::size_t>(n)];
      want += (std::log(sum) - (1 - smoothing) * row[label]) / static_cast<double>(rows);
      for (std::int64_t c = 0; c < classes; ++c)
        want -= smoothing * row[c] / static_cast<double>(classes * rows);
      for (std::int64_t c = 0; c < classes; ++c) {
        const auto at = static_cast<std::size_t>(n * classes + c);
        const double q = std::exp(row[c]) / sum,
                     t = (1 - smoothing) * (c == label) + smoothing / static_cast<double>(classes),
                     g = (q - t) / static_cast<double>(rows);
        // exp's argument is rounded to float, and the factor; then dz once more to its dtype (twice in 16
        // bits). fp16's smallest step, 2^-24, stands for the gradients that it cannot hold.
        ASSERT_NEAR(p[at], q, q * 0x1p-20);
        ASSERT_NEAR(dz[at], g,
                    std::abs(g) * (2 * rounding_of(GetParam()) + 0x1p-20) +
                        q / static_cast<double>(rows) * 0x1p-20 + (GetParam() == DType::f16 ? 0x1p-24 : 0.0))
            << n << ' ' << c;
      }
    }
    EXPECT_NEAR(loss.item(), want, want * 0x1p-21);
  }
}

INSTANTIATE_TEST_SUITE_P(CudaEmu, EmulatedReduce, testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace cairn
