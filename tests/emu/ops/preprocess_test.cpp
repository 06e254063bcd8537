// Images from uint8 to the compute dtype, mirrored and gathered on the device: the same values as from the
// CPU backend's kernel, which has an oracle of its own.
#include <gtest/gtest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/philox.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

const OwnMemory kOwnMemory;

class EmulatedPreprocess : public NoReportsTest {};

constexpr std::int64_t kTable = 5;

std::vector<std::uint8_t> pixels(std::int64_t n) {
  std::vector<std::uint8_t> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<std::uint8_t>(philox(6, 0, i).v[0]);
  return v;
}

TEST_F(EmulatedPreprocess, MirrorsAndGathersAsOnTheCpu) {
  const Normalization normalization{.mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const auto& [h, w] : {std::pair{1, 1}, {3, 5}, {7, 8}, {16, 11}})
      for (const std::int64_t n : {0, 1, 3, 7})
        for (const bool flips : {false, true})
          for (const bool gathers : {false, true}) {
            const std::int64_t images = gathers ? kTable : n;
            std::vector<std::uint8_t> flip;
            std::vector<std::int32_t> index;
            for (std::int64_t i = 0; i < n; ++i) {
              flip.push_back(i % 3 == 1 ? 1 : 0);
              index.push_back(static_cast<std::int32_t>((kTable - 1 + 2 * i) % kTable));  // the last, repeats
            }
            const auto on = [&](Device device, DType t) {
              const Tensor x =
                  from_values<std::uint8_t>({images, h, w, 3}, pixels(images * h * w * 3), device);
              return preprocess(x, t, normalization,
                                flips ? from_values<std::uint8_t>({n}, flip, device) : Tensor(),
                                gathers ? from_values<std::int32_t>({n}, index, device) : Tensor());
            };
            // fp16 has no CPU kernel: fp32 there, and the one rounding after it. The CPU divides in double.
            const std::vector<double> want = on({}, DType::f32).to_doubles();
            const std::vector<double> got = on(kCuda, dtype).to_doubles();
            ASSERT_EQ(got.size(), want.size());
            const double rounding = dtype == DType::bf16 ? 0x1p-8 : dtype == DType::f16 ? 0x1p-11 : 0;
            for (std::size_t i = 0; i < want.size(); ++i)
              // Quotient, difference and quotient are rounded; the difference cancels at most 1 to its
              // result.
              ASSERT_NEAR(got[i], want[i], std::abs(want[i]) * rounding + 4 * 0x1p-24 / 0.224)
                  << name_of(dtype) << ' ' << h << 'x' << w << " n " << n << " element " << i;
          }
}

TEST_F(EmulatedPreprocess, CropsAsOnTheCpu) {
  constexpr std::int64_t kImages = 5, kHeight = 13, kWidth = 17;
  const std::vector<std::int32_t> index = {4, 0, 2, 2, 1, 4, 3};
  const std::vector<std::uint8_t> flip = {0, 1, 0, 1, 1, 0, 0};
  const auto n = static_cast<std::int64_t>(index.size());
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const auto& [h, w] : {std::pair{13, 17}, {12, 16}, {1, 1}, {7, 9}, {0, 3}}) {
      std::vector<std::int32_t> crop;
      for (std::int32_t i = 0; i < n; ++i) {
        crop.push_back(static_cast<std::int32_t>(kHeight - h) * (i % 3) / 2);  // first, middle, last rows
        crop.push_back(static_cast<std::int32_t>(kWidth - w) * ((i + 1) % 3) / 2);
      }
      const auto on = [&](Device device, DType t) {
        const Tensor x = from_values<std::uint8_t>({kImages, kHeight, kWidth, 3},
                                                   pixels(kImages * kHeight * kWidth * 3), device);
        const Tensor places = from_values<std::int32_t>({n}, index, device);
        const Tensor mirrored = from_values<std::uint8_t>({n}, flip, device);
        const Tensor corners = from_values<std::int32_t>({n, 2}, crop, device);
        const Tensor y = empty({n, h, w, 3}, t, device);
        preprocess_into(y, x, {}, mirrored, places, corners);
        return y;
      };
      const std::vector<double> want = on({}, DType::f32).to(dtype).to_doubles();
      const std::vector<double> got = on(kCuda, dtype).to_doubles();
      ASSERT_EQ(got.size(), want.size());
      // The CPU divides in double, the device in fp32: one step of the dtype at most, of values up to 1.
      const double step = dtype == DType::bf16 ? 0x1p-7 : dtype == DType::f16 ? 0x1p-10 : 0x1p-22;
      for (std::size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(got[i], want[i], step) << name_of(dtype) << ' ' << h << 'x' << w << " element " << i;
    }
}

// A batch that was gathered on the device has the bits of the same batch sent there as it is.
TEST_F(EmulatedPreprocess, GatheringIsExact) {
  constexpr std::int64_t kSide = 9, kBytes = kSide * kSide * 3;
  const std::vector<std::uint8_t> table = pixels(kTable * kBytes);
  const std::vector<std::int32_t> index = {4, 0, 2, 2, 1, 4, 3};
  std::vector<std::uint8_t> batch;
  for (const std::int32_t i : index)
    batch.insert(batch.end(), table.begin() + i * kBytes, table.begin() + (i + 1) * kBytes);
  const auto n = static_cast<std::int64_t>(index.size());
  const Tensor sent = from_values<std::uint8_t>({n, kSide, kSide, 3}, batch, kCuda);
  const Tensor kept = from_values<std::uint8_t>({kTable, kSide, kSide, 3}, table, kCuda);
  const Tensor places = from_values<std::int32_t>({n}, index, kCuda);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const std::vector<double> want = preprocess(sent, dtype).to_doubles();
    EXPECT_EQ(preprocess(kept, dtype, {}, {}, places).to_doubles(), want);
    const Tensor y = empty({n, kSide, kSide, 3}, dtype, kCuda);
    preprocess_into(y, kept, {}, {}, places);
    EXPECT_EQ(y.to_doubles(), want);
  }
}

}  // namespace
}  // namespace cairn
