// Steps that are not taken: parameters, moments, moving average and batch norm's statistics stay to the bit,
// on the CPU. tests/emu/train/step_guard_test.cpp does the same on the emulated device, in a captured graph.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/autograd.h"
#include "engine/find_nonfinite.h"
#include "engine/nn/layers.h"
#include "engine/optim/optimizer.h"
#include "kernels/optimizer.h"

namespace cairn {
namespace {

using kernels::StepOutcome;

struct Net : nn::Module {
  Net()
      : conv(make<nn::Conv2d>("block.conv", init, nn::Conv2dOptions{.in_channels = 2, .out_channels = 3})),
        bn(make<nn::BatchNorm2d>("block.bn", init, 3)),
        fc(make<nn::Linear>("fc", init, nn::LinearOptions{.in_features = 3, .out_features = 2})) {}
  Tensor forward(const Tensor& x) override {
    return fc(global_avg_pool(bn.fused(conv(x), {}, Activation::relu)));
  }
  nn::Initializer init{5};
  nn::Conv2d& conv;
  nn::BatchNorm2d& bn;
  nn::Linear& fc;
};

class Steps {
 public:
  explicit Steps(const optim::OptimizerOptions& options)
      : parameters_(net), optimizer(optim::make_optimizer(parameters_, options)) {}

  Tensor loss(std::uint32_t number) {
    std::vector<float> x(2 * 4 * 4 * 2);
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>((i * 7 + number * 13) % 11) / 11.0f - 0.4f;
    return softmax_cross_entropy(net(from_values<float>({2, 4, 4, 2}, x)),
                                 from_values<std::int32_t>({2}, std::vector<std::int32_t>{0, 1}));
  }
  /// With `poison`, one gradient is that.
  void step(std::uint32_t number, float poison = 0) {
    optimizer->zero_grad();
    const Tensor value = loss(number);
    value.backward();
    if (poison != 0) {
      std::vector<float> grads = parameters_.grads().to_vector<float>();
      grads[3] = poison;
      parameters_.grads().copy_from<float>(grads);
    }
    optimizer->prepare(0.1f);
    optimizer->apply(value);
  }
  std::vector<std::vector<float>> state() const {
    std::vector<std::vector<float>> all;
    for (const nn::NamedTensor& t : net.named_tensors()) all.push_back(t.tensor.to_vector<float>());
    for (const nn::NamedTensor& t : optimizer->state()) all.push_back(t.tensor.to_vector<float>());
    return all;
  }
  kernels::StepReport report() const {
    const std::vector<std::uint8_t> bytes = optimizer->guard().report().to_vector<std::uint8_t>();
    kernels::StepReport report;
    std::memcpy(&report, bytes.data(), sizeof report);
    return report;
  }

  Net net;

 private:
  optim::FlatParameters parameters_;

 public:
  std::unique_ptr<optim::Optimizer> optimizer;
};

const std::vector<optim::OptimizerOptions> kOptimizers = {
    {.kind = optim::OptimizerKind::sgd, .ema_decay = 0.9f},
    {.kind = optim::OptimizerKind::adam, .ema_decay = 0.9f},
    {.kind = optim::OptimizerKind::adamw, .weight_decay = 0.1f, .clip_norm = 1.0f},
};

TEST(StepGuard, AStepWithANonfiniteGradientChangesNothing) {
  for (const optim::OptimizerOptions& options : kOptimizers)
    for (const float poison : {NAN, INFINITY, -INFINITY}) {
      Steps steps(options), undisturbed(options);
      steps.step(1);
      undisturbed.step(1);
      const auto before = steps.state();
      EXPECT_EQ(steps.report().outcome, StepOutcome::taken);
      steps.step(2, poison);
      EXPECT_EQ(steps.report().outcome, StepOutcome::nonfinite);
      EXPECT_TRUE(std::isfinite(steps.report().loss));
      EXPECT_EQ(steps.state(), before);
      EXPECT_EQ(steps.optimizer->guard().read().skipped_steps, 1);
      // From here on it is as if the step had never been, Adam's bias corrections included.
      for (std::uint32_t i = 3; i < 6; ++i) {
        steps.step(i);
        undisturbed.step(i);
        if (options.ema_decay == 0) {  // the average's ramp counts all steps
          EXPECT_EQ(steps.state(), undisturbed.state()) << i;
        }
      }
      EXPECT_NE(steps.state(), before);
    }
}

TEST(StepGuard, ALossThatIsNoNumberCountsAsWell) {
  Steps steps(kOptimizers[1]);
  steps.step(1);
  const auto before = steps.state();
  steps.optimizer->zero_grad();
  steps.loss(2).backward();
  steps.optimizer->prepare(0.1f);
  steps.optimizer->apply(full({1}, INFINITY));
  EXPECT_EQ(steps.report().outcome, StepOutcome::nonfinite);
  EXPECT_EQ(steps.state(), before);
}

// What the program does: the report is read a step late, and nothing has moved since the bad step.
TEST(StepGuard, HeldItTakesNoStepUntilItIsReleased) {
  Steps steps(kOptimizers[1]), undisturbed(kOptimizers[1]);
  steps.optimizer->guard().hold(true);
  for (Steps* s : {&steps, &undisturbed}) s->step(1);
  const auto before = steps.state();
  steps.step(2, NAN);
  steps.step(3);
  EXPECT_EQ(steps.report().outcome, StepOutcome::nonfinite);
  EXPECT_EQ(steps.state(), before);
  steps.optimizer->withdraw(2);
  EXPECT_EQ(steps.optimizer->steps(), 1);
  EXPECT_EQ(steps.optimizer->guard().read().skipped_steps, 0);
  for (Steps* s : {&steps, &undisturbed}) s->step(3);
  EXPECT_EQ(steps.report().outcome, StepOutcome::taken);
  EXPECT_EQ(steps.state(), undisturbed.state());
}

TEST(StepGuard, BuffersChangedByHandAreTheOnesToReturnTo) {
  Steps steps(kOptimizers[0]);
  steps.step(1);
  const BatchNormTensors bn = steps.net.bn.tensors();
  bn.running_mean.copy_from<float>(std::vector<float>{5, 6, 7});
  steps.optimizer->buffers().accept();
  steps.step(2, NAN);
  EXPECT_EQ(bn.running_mean.to_vector<float>(), (std::vector<float>{5, 6, 7}));
  (void)steps.loss(3);
  EXPECT_NE(bn.running_mean.to_vector<float>(), (std::vector<float>{5, 6, 7}));
  steps.optimizer->buffers().restore();
  EXPECT_EQ(bn.running_mean.to_vector<float>(), (std::vector<float>{5, 6, 7}));
}

TEST(FindNonfinite, NamesLayerAndPass) {
  Steps steps(kOptimizers[0]);
  const auto find = [&](const std::function<Tensor(const Tensor&)>& between) {
    return find_nonfinite(
        steps.net,
        [&] {
          const Tensor x = full({2, 4, 4, 2}, 0.5);
          Tensor y = between(steps.net.bn(steps.net.conv(x)));
          y = steps.net.fc(global_avg_pool(y));
          return softmax_cross_entropy(y, from_values<std::int32_t>({2}, std::vector<std::int32_t>{0, 1}));
        },
        {});
  };
  const auto same = [](const Tensor& t) { return t; };
  EXPECT_EQ(find(same).where, "");
  // 1 / 0 forward; the root's slope at 0 backward.
  EXPECT_EQ(find([](const Tensor& t) { return div(t, affine(t, 0.0f)); }).where,
            "div behind block.bn, forward");
  EXPECT_EQ(find([](const Tensor& t) { return sqrt(affine(mul(t, t), 0.0f)); }).where,
            "sqrt behind block.bn, backward");
  const Tensor& w = steps.net.conv.weight();
  const std::vector<float> kept = w.to_vector<float>();
  std::vector<float> huge(kept.size(), 3e38f);
  w.copy_from<float>(huge);
  EXPECT_EQ(find(same).where, "block.conv, forward");
  huge[3] = NAN;
  w.copy_from<float>(huge);
  const Nonfinite found = find(same);
  EXPECT_EQ(found.where, "block.conv.weight, a parameter");
  EXPECT_TRUE(found.in_module);
}

}  // namespace
}  // namespace cairn
