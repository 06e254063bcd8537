#include "kernels/dropout.h"

#include "kernels/philox.h"
#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class DropoutKernel : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, DropoutKernel, kernel_cases(), kernel_case_name);

// The header's words, one element at a time.
bool kept(std::uint64_t seed, std::uint64_t stream, std::int64_t step, std::int64_t index, float p) {
  const Philox4x32 words =
      philox(seed, stream + (static_cast<std::uint64_t>(step) << 32), static_cast<std::uint64_t>(index / 4));
  return static_cast<double>(words.v[index % 4]) >= std::floor(static_cast<double>(p) * 4294967296.0);
}

TEST_P(DropoutKernel, MaskIsTheOneOfTheHeader) {
  const std::uint64_t seed = 0x123456789ABCDEFull, stream = (std::uint64_t{77} << 32) | 0x80000002u;
  for (std::int64_t n : kLengths)
    for (float p : {0.0f, 0.1f, 0.5f, 0.999f})
      for (std::int64_t first :
           {std::int64_t{0}, std::int64_t{1}, std::int64_t{6}, (std::int64_t{1} << 34) - 5}) {
        if (n > 1000 && first == 1) continue;
        const std::int64_t step = 41;
        Buffer steps(DType::i64, {1}, {static_cast<double>(step)});
        Buffer x = grid(dtype(), {n}, 1), y(dtype(), {n}), sum = grid(dtype(), {n}, 2);
        std::vector<double> want, want_sum;
        for (std::int64_t i = 0; i < n; ++i) {
          want.push_back(kept(seed, stream, step, first + i, p) ? x.at(i) / (1 - static_cast<double>(p)) : 0);
          want_sum.push_back(want.back() + sum.at(i));
        }
        Dropout a{x.in(), y.view(), p, seed, stream, steps.in(), first};
        run(dropout, a);
        // 1/(1-p) in the compute type: 1-p is exact for p >= 0.5 and else rounded once.
        const double compute = 4 * rounding_of(parameter_dtype(dtype()));
        const std::string what = "n " + std::to_string(n) + " p " + std::to_string(p);
        expect_close(y, want, rounding_of(dtype()) + compute, 0, what);
        a.y = sum.view();
        a.write = Write::add;
        run(dropout, a);
        expect_close(sum, want_sum, rounding_of(dtype()) + compute, 12000 * compute, what + ", add");
        a.y = x.view();
        a.write = Write::assign;
        run(dropout, a);
        EXPECT_TRUE(x.same_bits(y)) << what << " in place";
      }
}

TEST_P(DropoutKernel, BackwardHasTheForwardsMask) {
  const std::int64_t n = 5001;
  Buffer x = grid(dtype(), {n}, 3, 1, 2), dy = grid(dtype(), {n}, 4, 1, 2), y(dtype(), {n}), dx(dtype(), {n});
  run(dropout, {x.in(), y.view(), 0.3f, 7, 9, {}});
  run(dropout, {dy.in(), dx.view(), 0.3f, 7, 9, {}});
  for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(y.at(i) == 0, dx.at(i) == 0) << i;
}

TEST_P(DropoutKernel, KeepsItsShareAndDrawsAnewEachStep) {
  const std::int64_t n = 200000;
  Buffer x(dtype(), {n}, std::vector<double>(static_cast<std::size_t>(n), 1.0));
  for (float p : {0.1f, 0.5f, 0.8f}) {
    std::vector<Buffer> y;
    for (int step = 0; step < 2; ++step) {
      Buffer steps(DType::i64, {1}, {static_cast<double>(step)});
      y.emplace_back(dtype(), Shape{n});
      run(dropout, {x.in(), y.back().view(), p, 1, 2, steps.in()});
    }
    std::int64_t zeros = 0, both = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      zeros += y[0].at(i) == 0;
      both += y[0].at(i) == 0 && y[1].at(i) == 0;
    }
    // Five standard deviations of the binomial.
    const double q = static_cast<double>(p), m = static_cast<double>(n);
    EXPECT_NEAR(static_cast<double>(zeros), m * q, 5 * std::sqrt(m * q * (1 - q)));
    EXPECT_NEAR(static_cast<double>(both), m * q * q, 5 * std::sqrt(m * q * q * (1 - q * q)))
        << "independent steps";
  }
}

// What is dropped is 0 whatever it was.
TEST_P(DropoutKernel, DroppedNaNIsZero) {
  Buffer x(dtype(), {1000}, std::vector<double>(1000, std::nan(""))), y(dtype(), {1000});
  run(dropout, {x.in(), y.view(), 0.5f, 3, 4, {}});
  for (std::int64_t i = 0; i < 1000; ++i) {
    const bool is_kept = kept(3, 4, 0, i, 0.5f);
    EXPECT_TRUE(is_kept ? std::isnan(y.at(i)) : y.at(i) == 0) << i;
  }
}

}  // namespace
}  // namespace cairn::kernels
