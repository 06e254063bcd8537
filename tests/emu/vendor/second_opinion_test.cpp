// A second opinion on linear layers. cuDNN's matmul graph is none without a compiler at run time: engine 0,
// which needs none, is cuBLASLt inside cuDNN (docs/cudnn-fusions.md). A 1x1 convolution over [N,1,1,C] is the
// same product, in kernels that cuBLASLt has no part in, so each pass of a linear layer is computed both
// ways. On the emulated device this holds the two translations against each other; on a GPU the two
// libraries.
#include "tests/emu/vendor/vendor_case.h"

namespace cairn::kernels {
namespace {

struct Layer {
  std::int64_t n, c, k;
};
// The models' last layers and shapes that are a multiple of nothing.
constexpr Layer kLayers[] = {{32, 512, 7}, {8, 2048, 128}, {5, 3, 7}, {33, 65, 31}, {1, 1, 1}};
constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};

/// One tensor under the names of both ops: [n,c] and [n,1,1,c].
View image(View v) {
  v.shape = {v.shape[0], 1, 1, v.shape[1]};
  return v;
}
ConstView image(ConstView v) {
  v.shape = {v.shape[0], 1, 1, v.shape[1]};
  return v;
}

/// Both are within the tolerance of the exact sum, so within twice of one another; terms are below 1, so that
/// the root of the length bounds their norm.
void expect_agree(const DeviceTensor& product, const DeviceTensor& convolution, DType kept,
                  std::int64_t length, const std::string& what) {
  const std::vector<double> want = convolution.read().values();
  const double norm = std::sqrt(static_cast<double>(length)) + 1;
  EXPECT_EQ(mismatch(
                product.read(), want,
                [&](std::size_t i) {
                  return 2 * vendor_tolerance(kept, product.in().dtype, want[i], norm,
                                              static_cast<double>(length));
                },
                what),
            "");
}

TEST(VendorLinearSecondOpinion, CudnnAndCublasLtAgreeOnEachPass) {
  for (const DType t : kTypes)
    for (const auto& [n, c, k] : kLayers) {
      const std::string what = std::string(name_of(t)) + ' ' + to_string(Shape{n, c, k});
      const DeviceTensor x(t, {n, c}, random_for(t, {n, c}, 1)),
          w(DType::f32, {k, c}, random_for(DType::f32, {k, c}, 2)), dy(t, {n, k}, random_for(t, {n, k}, 3)),
          bias(DType::f32, {k}, random_for(DType::f32, {k}, 4));
      {
        DeviceTensor product(t, {n, k}), convolution(t, {n, k});
        ASSERT_EQ(run_vendor(linear_forward, {.x = x.in(),
                                              .w = w.in(),
                                              .bias = bias.in(),
                                              .y = product.view(),
                                              .activation = Activation::relu}),
                  "");
        ASSERT_EQ(run_vendor(conv2d_forward, {.x = image(x.in()),
                                              .w = image(w.in()),
                                              .bias = bias.in(),
                                              .residual = {},
                                              .y = image(convolution.view()),
                                              .geometry = {},
                                              .activation = Activation::relu}),
                  "");
        expect_agree(product, convolution, t, c, what + " y");
      }
      {
        DeviceTensor product(t, {n, c}), convolution(t, {n, c});
        ASSERT_EQ(run_vendor(linear_backward_data, {.dy = dy.in(), .w = w.in(), .dx = product.view()}), "");
        ASSERT_EQ(
            run_vendor(
                conv2d_backward_data,
                {.dy = image(dy.in()), .w = image(w.in()), .dx = image(convolution.view()), .geometry = {}}),
            "");
        expect_agree(product, convolution, t, k, what + " dx");
      }
      {
        DeviceTensor product(DType::f32, {k, c}), convolution(DType::f32, {k, c});
        ASSERT_EQ(run_vendor(linear_backward_weight,
                             {.x = x.in(), .dy = dy.in(), .dw = product.view(), .dbias = {}}),
                  "");
        ASSERT_EQ(run_vendor(conv2d_backward_weight, {.x = image(x.in()),
                                                      .dy = image(dy.in()),
                                                      .dw = image(convolution.view()),
                                                      .dbias = {},
                                                      .geometry = {}}),
                  "");
        expect_agree(product, convolution, t, n, what + " dw");
      }
    }
}

}  // namespace
}  // namespace cairn::kernels
