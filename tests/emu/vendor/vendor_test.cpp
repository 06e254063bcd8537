// Convolutions through cuDNN and products through cuBLASLt. On the emulated device the real libraries choose
// plans and hold descriptors; what those say is computed on the host, and held against the definition.
#include "tests/emu/vendor/vendor_case.h"

namespace cairn::kernels {
namespace {

Conv2dGeometry square(int stride, int padding, int dilation = 1, int groups = 1) {
  return {stride, stride, padding, padding, dilation, dilation, groups};
}

const std::vector<ConvCase>& conv_cases() {
  static const std::vector<ConvCase> cases = {
      {{2, 8, 8, 16}, {32, 3, 3, 16}, square(1, 1)},
      {{2, 7, 9, 64}, {64, 3, 3, 64}, square(1, 1)},
      {{2, 15, 13, 3}, {24, 7, 7, 3}, square(2, 3)},  // the stem: padded to 8 channels in 16 bits
      {{2, 6, 6, 64}, {128, 1, 1, 64}, square(2, 0)},
      {{1, 1, 1, 16}, {16, 3, 3, 16}, square(1, 1)},
      {{2, 11, 10, 8}, {16, 3, 3, 8}, square(1, 2, 2)},
      {{2, 8, 9, 24}, {16, 3, 3, 12}, square(1, 1, 1, 2)},
      {{2, 12, 5, 10}, {8, 5, 2, 10}, {2, 1, 2, 0, 1, 3, 1}},
      {{3, 7, 5, 33}, {17, 3, 3, 33}, square(1, 1)},  // no multiple of anything
  };
  return cases;
}

class VendorConvTest : public testing::TestWithParam<std::tuple<std::size_t, DType>> {
 protected:
  void SetUp() override { ASSERT_TRUE(backend_parts()[1].works) << backend_parts()[1].found; }
  VendorConv conv{conv_cases()[std::get<0>(GetParam())], std::get<1>(GetParam())};
};
TEST_P(VendorConvTest, Forward) {
  for (int v = 0; v < 8; ++v)
    EXPECT_EQ(conv.forward(v & 1, v & 2, v & 4), "")
        << (v & 1 ? "bias " : "") << (v & 2 ? "residual " : "") << (v & 4 ? "relu" : "");
}
// The plan has to promise less, or another tensor is read or written.
TEST_P(VendorConvTest, AnyAlignment) {
  for (const bool fused : {false, true})
    for (const std::size_t offset : {4, 8, 12}) {
      EXPECT_EQ(conv.forward(fused, fused, fused, {.x = offset}), "") << "x " << offset;
      EXPECT_EQ(conv.forward(fused, fused, fused, {.residual = offset}), "") << "residual " << offset;
      EXPECT_EQ(conv.forward(fused, fused, fused, {.y = offset}), "") << "y " << offset;
    }
}
TEST_P(VendorConvTest, BackwardData) {
  EXPECT_EQ(conv.backward_data(Write::assign), "");
  EXPECT_EQ(conv.backward_data(Write::add), "");
}
TEST_P(VendorConvTest, BackwardWeight) {
  EXPECT_EQ(conv.backward_weight(Write::assign, false), "");
  EXPECT_EQ(conv.backward_weight(Write::add, true), "");
}
INSTANTIATE_TEST_SUITE_P(Cases, VendorConvTest,
                         testing::Combine(testing::Range(std::size_t{0}, conv_cases().size()),
                                          testing::Values(DType::f32, DType::bf16, DType::f16)),
                         [](const auto& tested) {
                           return "case" + std::to_string(std::get<0>(tested.param)) + "_" +
                                  name_of(std::get<1>(tested.param));
                         });

class VendorLinearTest : public testing::TestWithParam<std::tuple<std::array<std::int64_t, 3>, DType>> {
 protected:
  void SetUp() override { ASSERT_TRUE(backend_parts()[2].works) << backend_parts()[2].found; }
  static VendorLinear make() {
    const auto [s, t] = GetParam();
    return {.n = s[0], .c = s[1], .k = s[2], .dtype = t};
  }
  VendorLinear linear = make();
};
TEST_P(VendorLinearTest, Forward) {
  for (int v = 0; v < 4; ++v) EXPECT_EQ(linear.forward(v & 1, v & 2), "");
}
TEST_P(VendorLinearTest, BackwardData) {
  EXPECT_EQ(linear.backward_data(Write::assign), "");
  EXPECT_EQ(linear.backward_data(Write::add), "");
}
TEST_P(VendorLinearTest, BackwardWeight) {
  EXPECT_EQ(linear.backward_weight(Write::assign, false), "");
  EXPECT_EQ(linear.backward_weight(Write::add, true), "");
}
INSTANTIATE_TEST_SUITE_P(Cases, VendorLinearTest,
                         testing::Combine(testing::Values(std::array<std::int64_t, 3>{1, 1, 1},
                                                          std::array<std::int64_t, 3>{5, 3, 7},
                                                          std::array<std::int64_t, 3>{4, 32, 16},
                                                          std::array<std::int64_t, 3>{33, 65, 31}),
                                          testing::Values(DType::f32, DType::bf16, DType::f16)),
                         [](const auto& tested) {
                           const auto& s = std::get<0>(tested.param);
                           return std::to_string(s[0]) + "x" + std::to_string(s[1]) + "x" +
                                  std::to_string(s[2]) + "_" + name_of(std::get<1>(tested.param));
                         });

// y = op(a) op(b) for all four pairs of transposes, batched, with a shared factor.
TEST(VendorMatmul, AllTransposesAndSharedFactors) {
  constexpr std::int64_t kBatch = 3, kM = 4, kN = 5, kK = 6;
  for (int v = 0; v < 16; ++v) {
    const bool ta = v & 1, tb = v & 2, shared_b = v & 4, add = v & 8;
    const std::int64_t batch_b = shared_b ? 1 : kBatch;
    const Shape as = ta ? Shape{kBatch, kK, kM} : Shape{kBatch, kM, kK};
    const Shape bs = tb ? Shape{batch_b, kN, kK} : Shape{batch_b, kK, kN};
    const Shape ys{kBatch, kM, kN};
    const std::vector<double> a = random_for(DType::f32, as, 1), b = random_for(DType::f32, bs, 2),
                              before = random_for(DType::f32, ys, 3);
    const DeviceTensor ad(DType::f32, as, a), bd(DType::f32, bs, b);
    DeviceTensor y(DType::f32, ys, before);
    ASSERT_EQ(run_vendor(matmul, {.a = ad.in(),
                                  .b = bd.in(),
                                  .y = y.view(),
                                  .transpose_a = ta,
                                  .transpose_b = tb,
                                  .write = add ? Write::add : Write::assign}),
              "");
    std::vector<double> want;
    for (std::int64_t i = 0; i < kBatch; ++i)
      for (std::int64_t m = 0; m < kM; ++m)
        for (std::int64_t n = 0; n < kN; ++n) {
          double sum = add ? before[want.size()] : 0;
          for (std::int64_t k = 0; k < kK; ++k)
            sum += a[static_cast<std::size_t>(i * kM * kK + (ta ? k * kM + m : m * kK + k))] *
                   b[static_cast<std::size_t>((shared_b ? 0 : i * kN * kK) + (tb ? n * kK + k : k * kN + n))];
          want.push_back(sum);
        }
    EXPECT_EQ(mismatch(
                  y.read(), want, [](std::size_t) { return 1e-5; },  // 7 terms below 1 in fp32
                  "matmul variant " + std::to_string(v)),
              "");
  }
}

#if defined(CAIRN_CUDA_EMU)  // a GPU does not tell who served
TEST(VendorConv, AnEmptyBatchIsServedByThePlainKernels) {
  const VendorConv conv{{{0, 8, 8, 16}, {32, 3, 3, 16}, square(1, 1)}, DType::f32};
  EXPECT_EQ(conv.forward(false, false, false), "a plain kernel served instead");
}
#endif

}  // namespace
}  // namespace cairn::kernels
