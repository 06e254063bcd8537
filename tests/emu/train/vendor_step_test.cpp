// The host path of a whole training step against the real cuDNN library: each convolution, forward, data
// gradient and weight gradient, is one execution, and each execution is held against what its graph promised
// (kernels/emu/vendor/cudnn.cpp: pointers, extents, alignment, overlaps, workspace). CMakeLists.txt gives
// every tensor an allocation of its own, so that an extent is held against the tensor and not against a
// cached block.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>

#include "engine/backend.h"
#include "kernels/emu/runtime.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

struct StepCase {
  const char* model;
  int convolutions;
};

class VendorStep : public NoReportsTest, public testing::WithParamInterface<std::tuple<StepCase, DType>> {};

TEST_P(VendorStep, EachConvolutionIsExecutedOnceAPassAndChecked) {
  const auto& [step, dtype] = GetParam();
  if (!backend_parts()[1].works) GTEST_SKIP() << backend_parts()[1].found;
  ASSERT_STREQ(std::getenv("CAIRN_ALLOCATOR"), "direct") << "run it as ctest does";
  Training training(step.model, kEmulated, dtype, {.kind = optim::OptimizerKind::sgd});
  const TestBatch batch = make_batch(4, 1);
  emu::record_execution(true);
  const double loss = training.step(batch, 0.01f).item();
  emu::record_execution(false);
  EXPECT_TRUE(std::isfinite(loss));
  const std::vector<std::string> ran = emu::executed_operations();
  // The input wants no gradient.
  EXPECT_EQ(std::ranges::count_if(ran, [](std::string_view name) { return name.starts_with("cuDNN"); }),
            3 * step.convolutions - 1);
}

INSTANTIATE_TEST_SUITE_P(Models, VendorStep,
                         testing::Combine(testing::Values(StepCase{"resnet18", 20},
                                                          StepCase{"resnet_classes", 20},
                                                          StepCase{"model_cnn", 3}),
                                          testing::Values(DType::f32, DType::bf16, DType::f16)),
                         [](const auto& tested) {
                           return std::string(std::get<0>(tested.param).model) + "_" +
                                  name_of(std::get<1>(tested.param));
                         });

}  // namespace
}  // namespace cairn
