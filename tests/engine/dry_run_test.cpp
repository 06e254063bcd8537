// What a dry run says a step will take, against what the step then takes.
#include "engine/dry_run.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/autograd.h"
#include "engine/nn/layers.h"
#include "engine/optim/optimizer.h"

namespace cairn {
namespace {

std::unique_ptr<nn::Module> make_net() {
  nn::Initializer init(3);
  auto net = std::make_unique<nn::Sequential>();
  net->add<nn::Conv2d>("conv", init, nn::Conv2dOptions{.in_channels = 3, .out_channels = 16, .padding = 1});
  net->add<nn::BatchNorm2d>("bn", init, 16);
  net->add<nn::ReLU>("relu");
  net->add<nn::MaxPool2d>("pool", 2);
  net->add<nn::Conv2d>("conv2", init, nn::Conv2dOptions{.in_channels = 16, .out_channels = 24});
  net->add<nn::GlobalAvgPool>("average");
  net->add<nn::Linear>("fc", init, nn::LinearOptions{.in_features = 24, .out_features = 4});
  return net;
}

void step(std::int64_t batch) {
  const auto net = make_net();
  optim::FlatParameters parameters(*net);
  const auto optimizer = optim::make_optimizer(parameters, {.kind = optim::OptimizerKind::adam});
  const Tensor x = full({batch, 32, 32, 3}, 0.5);
  const Tensor loss = softmax_cross_entropy((*net)(x), zeros({batch}, DType::i32));
  optimizer->zero_grad();
  loss.backward();
  if (!dry_run()) optimizer->prepare(1e-3f);
  optimizer->apply(loss);
}

TEST(DryRun, TakesThePeakOfARealStep) {
  for (const std::int64_t batch : {1, 7, 32}) {
    MemoryStats planned;
    {
      DryRun run(Device{});
      step(batch);
      planned = run.stats();
      EXPECT_EQ(planned.in_use, 0);
      std::int64_t held = 0;
      for (const DryRun::Holder& h : run.peak_holders()) held += h.bytes;
      EXPECT_EQ(held, planned.peak_in_use);
    }
    const std::int64_t before = memory_stats(Device{}).in_use;
    reset_peak_memory(Device{});
    step(batch);
    EXPECT_EQ(memory_stats(Device{}).peak_in_use - before, planned.peak_in_use) << batch;
    EXPECT_GT(planned.peak_in_use, batch * 32 * 32 * 16 * 4 * 2);  // conv's output and its gradient
  }
}

TEST(DryRun, AllocatesAndComputesNothing) {
  const Tensor real = full({4}, 3.0);
  const MemoryStats before = memory_stats(Device{});
  {
    const DryRun run(Device{});
    // 256 GiB, and twice as much.
    const Tensor x = full({1 << 20, 256, 256, 1}, 1.0), y = add(x, x);
    EXPECT_EQ(run.stats().in_use, 2 * (std::int64_t{1} << 38));
    EXPECT_THROW((void)y.to(DType::f32).item(), Error);
    EXPECT_THROW((void)real.to_vector<float>(), Error);
    real.copy_from<float>(std::vector<float>(4, 9.0f));
  }
  EXPECT_EQ(real.to_vector<float>(), std::vector<float>(4, 3.0f));
  EXPECT_EQ(memory_stats(Device{}).device_allocations, before.device_allocations);
}

TEST(DryRun, SaysWhoHoldsMost) {
  DryRun run(Device{});
  run.begin_label("first");
  const Tensor a = empty({1000, 256});
  run.begin_label({});
  const Tensor b = empty({3000, 256});
  run.label_new("second");
  {
    const Tensor scratch = workspace(2'000'000, Device{});
    run.label_new("third");
  }
  const std::vector<DryRun::Holder> holders = run.peak_holders();
  ASSERT_EQ(holders.size(), 3u);
  EXPECT_EQ(holders[0].label, "second");
  EXPECT_EQ(holders[1].label, "third");
  EXPECT_EQ(holders[1].kind, DryRun::Kind::workspace);
  EXPECT_EQ(holders[2].label, "first");
}

}  // namespace
}  // namespace cairn
