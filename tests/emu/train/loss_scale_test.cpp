// fp16 with dynamic loss scaling on the emulated device.
#include <iostream>

#include "engine/optim/step_guard.h"
#include "kernels/error.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

using optim::StepGuard;

// Without dropout: the runs that are compared differ in their step counts.
struct ScaledTraining : Training {
  explicit ScaledTraining(optim::OptimizerKind kind, int growth_interval = 2000)
      : Training("model_cnn", kCuda, DType::f16, {.kind = kind, .clip_norm = 5.0f}),
        scaler(optimizer->guard()) {
    scaler.scale_loss({.initial_scale = 1024, .growth_interval = growth_interval});
    model->eval();
  }
  double scaled_step(const TestBatch& batch) {
    const Tensor loss = backward(batch, scaler.scale()).loss;
    optimizer->step(1e-3f);
    return loss.item();
  }
  std::vector<float> values() const { return parameters->values().to_vector<float>(); }
  StepGuard& scaler;
};

TEST(LossScale, AnOverflowSkipsTheStepAndHalvesTheScale) {
  for (const auto kind : {optim::OptimizerKind::sgd, optim::OptimizerKind::adam}) {
    ScaledTraining training(kind, 3), undisturbed(kind, 3);
    const TestBatch batch = make_batch(6, 1);
    (void)training.scaled_step(batch);
    (void)undisturbed.scaled_step(batch);
    EXPECT_EQ(training.scaler.read().good_steps, 1);

    const std::vector<float> before = training.values();
    training.scaler.restore({.scale = 0x1p24f, .good_steps = 1, .skipped_steps = 0});
    (void)training.scaled_step(batch);
    EXPECT_EQ(training.values(), before);
    EXPECT_EQ(training.scaler.nonfinite().to_vector<std::int32_t>()[0], 1);
    StepGuard::State state = training.scaler.read();
    EXPECT_EQ(state.scale, 0x1p23f);
    EXPECT_EQ(state.good_steps, 0);
    EXPECT_EQ(state.skipped_steps, 1);

    // From here on it is as if the skipped step had never been: Adam's bias corrections too.
    training.scaler.restore({.scale = 1024, .good_steps = 1, .skipped_steps = 1});
    for (int i = 0; i < 2; ++i) {
      const double loss = training.scaled_step(batch);
      EXPECT_EQ(loss, undisturbed.scaled_step(batch));
      EXPECT_EQ(training.values(), undisturbed.values());
    }
    EXPECT_NE(training.values(), before);
    state = training.scaler.read();
    EXPECT_EQ(state.scale, 2048);  // three good ones
    EXPECT_EQ(state.good_steps, 0);
    EXPECT_EQ(training.optimizer->steps(), 4);
  }
}

// What the scale is for: gradients under 6e-8 vanish in fp16, and scaled they do not.
TEST(LossScale, ReachesGradientsThatWouldVanish) {
  const TestBatch batch = make_batch(6, 1);
  const auto left = [&](float scale) {
    ScaledTraining training(optim::OptimizerKind::sgd);
    training.scaler.restore({.scale = scale, .good_steps = 0, .skipped_steps = 0});
    (void)training.backward(batch, training.scaler.scale());
    const std::vector<float> grads = training.parameters->grads().to_vector<float>();
    return std::ranges::count_if(grads, [](float g) { return g != 0; });
  };
  // As if the loss had been a millionth of what it is.
  const auto small = left(0x1p-20f), scaled = left(1024);
  std::cout << '[' << name_of(kCuda.type) << "] gradients left with a scale of 2^-20: " << small
            << ", of 2^10: " << scaled << '\n';
  EXPECT_LT(small, scaled / 10);
}

TEST(LossScale, LearnsASmallSetInFp16) {
  ScaledTraining training(optim::OptimizerKind::adam, 4);
  const TestBatch batch = make_batch(8, 7);
  double loss = 10;
  for (int step = 0; step < 40 && loss > 0.05; ++step) loss = training.scaled_step(batch);
  EXPECT_LE(loss, 0.05);  // every image is right: -log p of one wrong is more than 0.69 / 8
}

TEST(LossScale, SaysWhereThereIsNone) {
  EXPECT_THROW(StepGuard(Device{}).scale_loss(), DTypeError);
  EXPECT_THROW(StepGuard(kCuda).scale_loss({.initial_scale = 1000}), InputError);
  EXPECT_THROW(StepGuard(kCuda).scale_loss({.initial_scale = 1024, .growth_interval = 0}), InputError);
}

}  // namespace
}  // namespace cairn
