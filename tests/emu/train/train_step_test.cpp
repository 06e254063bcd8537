// The program's step of training on the emulated device: graphs for whole batches, the same bits without.
#include "apps/train_step.h"

#include "kernels/emu/runtime.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

constexpr std::int64_t kImages = 4;

data::Batch batch_of(const TestBatch& from, bool mixed) {
  data::Batch batch;
  batch.size = from.images();
  batch.images = from.pixels.data();
  batch.labels = from.labels;
  if (mixed) {
    batch.labels2.assign(from.labels.rbegin(), from.labels.rend());
    batch.lambda.assign(from.labels.size(), 0.75f);
  }
  return batch;
}

// Whole batches, then among them a mixed one and an epoch's last, smaller one: each kind with its own labels.
TEST(GraphTrainStep, TakesEveryBatchToTheBitsOfDirectLaunches) {
  Training training("model_cnn", kEmulated, DType::f32, {.kind = optim::OptimizerKind::adam});
  Training direct("model_cnn", kEmulated, DType::f32, {.kind = optim::OptimizerKind::adam});
  app::Console console(true, false);
  app::TrainStep step(*training.model, *training.optimizer, training.step_counter,
                      {.precision = DType::f32,
                       .tf32 = false,
                       .batch_size = kImages,
                       .image_size = kSize,
                       .normalization = {},
                       .loss = {}},
                      kEmulated, console);
  emu::reset_call_counts();
  for (std::uint64_t i = 0; i < 9; ++i) {
    const bool mixed = i == 1 || i == 6;
    const TestBatch batch = make_batch(i == 7 ? kImages - 1 : kImages, i);
    const data::Batch sent = batch_of(batch, mixed);
    const float lr = 1e-3f / static_cast<float>(1 + i);
    const Tensor loss = step.run(sent, lr);

    direct.send_step_number();
    const Training::Inputs inputs = direct.upload(batch);
    CrossEntropyOptions options;
    if (mixed) {
      options.labels2 = from_values<std::int32_t>({kImages}, sent.labels2, kEmulated);
      options.lambda = from_values<float>({kImages}, sent.lambda, kEmulated);
    }
    const Tensor want = softmax_cross_entropy((*direct.model)(preprocess(inputs.images, DType::f32, {})),
                                              inputs.labels, options);
    direct.optimizer->zero_grad();
    want.backward();
    direct.optimizer->step(lr);
    ASSERT_EQ(loss.item(), want.item()) << "step " << i;
    ASSERT_EQ(training.parameters->values().to_vector<float>(),
              direct.parameters->values().to_vector<float>())
        << "step " << i;
  }
  EXPECT_EQ(emu::call_counts().graph_launches, 4);  // steps 3 to 5, and 8
}

}  // namespace
}  // namespace cairn
