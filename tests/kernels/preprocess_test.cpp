#include "kernels/preprocess.h"

#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class PreprocessKernel : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, PreprocessKernel, kernel_cases(), kernel_case_name);

// With a crop x is larger than y by 3 rows and 5 columns.
TEST_P(PreprocessKernel, NormalisesMirrorsGathersCropsAndPads) {
  const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
  for (const Shape& s :
       {Shape{0, 4, 4, 3}, Shape{1, 1, 1, 3}, Shape{3, 5, 7, 3}, Shape{2, 31, 33, 8}, Shape{4, 60, 64, 3}})
    for (int variant = 0; variant < 8; ++variant) {
      const bool flips = variant & 1, gathers = variant & 2, crops = variant & 4;
      constexpr std::int64_t kTable = 5;
      const std::int64_t x_height = s[1] + (crops ? 3 : 0), x_width = s[2] + (crops ? 5 : 0);
      Buffer x(DType::u8, {gathers ? kTable : s[0], x_height, x_width, 3}), flip(DType::u8, {s[0]}),
          index(DType::i32, {s[0]}), crop(DType::i32, {s[0], 2}), y(dtype(), s), again(dtype(), s);
      for (std::int64_t i = 0; i < x.numel(); ++i) x.set(i, static_cast<double>(i * 37 % 256));
      for (std::int64_t n = 0; n < s[0]; ++n) flip.set(n, n % 2 == 0 ? 0 : 7);
      for (std::int64_t n = 0; n < s[0]; ++n) index.set(n, static_cast<double>((4 + 3 * n) % kTable));
      for (std::int64_t n = 0; n < s[0]; ++n) {
        crop.set(2 * n, static_cast<double>((3 + n) % 4));  // the last row, then the first ones
        crop.set(2 * n + 1, static_cast<double>((5 + 2 * n) % 6));
      }
      Preprocess a;
      a.x = x.in();
      if (flips) a.flip = flip.in();
      if (gathers) a.index = index.in();
      if (crops) a.crop = crop.in();
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
              const std::int64_t top = crops ? (3 + n) % 4 : 0, left = crops ? (5 + 2 * n) % 6 : 0;
              const std::int64_t pixel = (image * x_height + h + top) * x_width + from + left;
              const double v = c < 3 ? x.at(pixel * 3 + c) / 255.0 : 0;
              want.push_back(c < 3 ? (v - static_cast<double>(mean[c])) / static_cast<double>(std[c]) : 0);
            }
      // Rounded to float, then to the dtype.
      expect_close(y, want, rounding_of(dtype()) + rounding_of(parameter_dtype(dtype())), 0, to_string(s));
    }
}

}  // namespace
}  // namespace cairn::kernels
