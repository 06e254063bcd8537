#include "kernels/preprocess.h"

#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class PreprocessKernel : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, PreprocessKernel, kernel_cases(), kernel_case_name);

TEST_P(PreprocessKernel, NormalisesMirrorsGathersAndPads) {
  const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
  for (const Shape& s :
       {Shape{0, 4, 4, 3}, Shape{1, 1, 1, 3}, Shape{3, 5, 7, 3}, Shape{2, 31, 33, 8}, Shape{4, 60, 64, 3}})
    for (const auto& [flips, gathers] :
         {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
      constexpr std::int64_t kTable = 5;
      Buffer x(DType::u8, {gathers ? kTable : s[0], s[1], s[2], 3}), flip(DType::u8, {s[0]}),
          index(DType::i32, {s[0]}), y(dtype(), s), again(dtype(), s);
      for (std::int64_t i = 0; i < x.numel(); ++i) x.set(i, static_cast<double>(i * 37 % 256));
      for (std::int64_t n = 0; n < s[0]; ++n) flip.set(n, n % 2 == 0 ? 0 : 7);
      for (std::int64_t n = 0; n < s[0]; ++n) index.set(n, static_cast<double>((4 + 3 * n) % kTable));
      Preprocess a;
      a.x = x.in();
      if (flips) a.flip = flip.in();
      if (gathers) a.index = index.in();
      a.y = y.view();
      for (int c = 0; c < 3; ++c) {
        a.mean[c] = mean[c];
        a.std[c] = std[c];
      }
      run(preprocess, a);
      a.y = again.view();
      run(preprocess, a);
      EXPECT_TRUE(y.same_bits(again));
      std::vector<double> want;
      for (std::int64_t n = 0; n < s[0]; ++n)
        for (std::int64_t h = 0; h < s[1]; ++h)
          for (std::int64_t w = 0; w < s[2]; ++w)
            for (std::int64_t c = 0; c < s[3]; ++c) {
              const std::int64_t from = flips && n % 2 == 1 ? s[2] - 1 - w : w;
              const std::int64_t image = gathers ? (4 + 3 * n) % kTable : n;
              const double v = c < 3 ? x.at(((image * s[1] + h) * s[2] + from) * 3 + c) / 255.0 : 0;
              want.push_back(c < 3 ? (v - static_cast<double>(mean[c])) / static_cast<double>(std[c]) : 0);
            }
      // Rounded to float, then to the dtype.
      expect_close(y, want, rounding_of(dtype()) + rounding_of(parameter_dtype(dtype())), 0, to_string(s));
    }
}

}  // namespace
}  // namespace cairn::kernels
