// The models learn by heart what they are shown, on the emulated device.
#include <iostream>

#include "tests/emu/train/training.h"

namespace cairn {
namespace {

constexpr std::int64_t kImages = 8;

double accuracy(Training& training, const TestBatch& batch) {
  const NoGrad no_grad;
  training.model->eval();
  const std::vector<double> logits = training.logits(batch).to_doubles();
  training.model->train();
  int right = 0;
  for (std::int64_t n = 0; n < kImages; ++n) {
    const auto row = logits.begin() + n * kClasses;
    right += std::max_element(row, row + kClasses) - row == batch.labels[static_cast<std::size_t>(n)];
  }
  return right / static_cast<double>(kImages);
}

// A lower rate lets batch norm's running statistics, of which evaluation lives, catch up with the weights.
float rate(bool has_batch_norm, int step) { return has_batch_norm && step >= 12 ? 4e-4f : 0.02f; }

class Learning : public testing::TestWithParam<const char*> {};

TEST_P(Learning, EveryImageOfASmallSet) {
  const TestBatch batch = make_batch(kImages, 7);
  Training training(GetParam(), kCuda, DType::f32, {.kind = optim::OptimizerKind::sgd, .momentum = 0.9f});
  const bool has_batch_norm = std::string(GetParam()) != "model_cnn";
  constexpr int kMost = 60;
  int steps = 0;
  double reached = 0;
  while (steps < kMost && reached < 1) {
    for (int i = 0; i < 5; ++i, ++steps) (void)training.step(batch, rate(has_batch_norm, steps));
    if (steps >= 10) reached = accuracy(training, batch);
  }
  EXPECT_EQ(reached, 1.0);
  std::cout << '[' << name_of(kCuda.type) << "] " << GetParam() << ": " << 100 * reached << " % after "
            << steps << " steps\n";
}

INSTANTIATE_TEST_SUITE_P(Models, Learning, testing::ValuesIn(kModels));

}  // namespace
}  // namespace cairn
