// Steps that are not taken, on the emulated device, launched directly and as a captured graph.
#include "engine/optim/step_guard.h"

#include <cmath>
#include <cstring>
#include <optional>

#include "engine/find_nonfinite.h"
#include "engine/graph.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

using kernels::StepOutcome;

class GuardedSteps {
 public:
  GuardedSteps(DType dtype, optim::OptimizerKind kind)
      : training(small_net(), kEmulated, dtype, {.kind = kind, .weight_decay = 1e-4f}),
        inputs_(training.upload(make_batch(4, 0))) {
    if (dtype == DType::f16) guard().scale_loss({.initial_scale = 1024, .growth_interval = 100});
    guard().hold(true);
  }
  optim::StepGuard& guard() const { return training.optimizer->guard(); }

  void step(std::uint64_t number, bool captured) {
    const TestBatch batch = make_batch(4, number);
    inputs_.images.copy_from<std::uint8_t>(batch.pixels);
    inputs_.labels.copy_from<std::int32_t>(batch.labels);
    training.send_step_number();
    training.optimizer->prepare(0.01f);
    const auto work = [this] {
      const Tensor scale =
          guard().scale().defined() ? guard().scale() : full({1}, 1.0, DType::f32, kEmulated);
      loss_ = training.backward(inputs_, scale).loss;
      training.optimizer->apply(loss_);
    };
    if (!captured) return work();
    if (!graph_) graph_.emplace(kEmulated, work);
    graph_->replay();
  }
  StepOutcome outcome() const {
    const std::vector<std::uint8_t> bytes = guard().report().to_vector<std::uint8_t>();
    kernels::StepReport report;
    std::memcpy(&report, bytes.data(), sizeof report);
    return report.outcome;
  }
  std::vector<std::vector<float>> state() const {
    std::vector<std::vector<float>> all;
    for (const nn::NamedTensor& t : training.model->named_tensors())
      all.push_back(t.tensor.to_vector<float>());
    for (const nn::NamedTensor& t : training.optimizer->state()) all.push_back(t.tensor.to_vector<float>());
    return all;
  }
  /// Calls f while a filter of the first layer holds no number.
  template <class F>
  void poisoned(F&& f) {
    const Tensor& weight = training.model->named_parameters().front().tensor;
    std::vector<float> values = weight.to_vector<float>();
    const float kept = std::exchange(values[3], NAN);
    weight.copy_from<float>(values);
    f();
    values[3] = kept;
    weight.copy_from<float>(values);
  }

  Training training;

 private:
  Training::Inputs inputs_;
  Tensor loss_;
  std::optional<Graph> graph_;
};

// A bad step and the one queued behind it, then the second once more, as the program does it.
TEST(GraphStepGuard, HoldsWhatComesBehindABadStep) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16})
    for (const bool captured : {false, true}) {
      GuardedSteps steps(dtype, optim::OptimizerKind::adam), undisturbed(dtype, optim::OptimizerKind::adam);
      for (std::uint64_t i = 0; i < 3; ++i)
        for (GuardedSteps* s : {&steps, &undisturbed}) s->step(i, captured && i == 2);
      ASSERT_EQ(steps.outcome(), StepOutcome::taken);
      const auto before = steps.state();
      steps.poisoned([&] { steps.step(3, captured); });
      EXPECT_EQ(steps.outcome(), StepOutcome::nonfinite) << name_of(dtype);
      steps.step(4, captured);
      EXPECT_EQ(steps.outcome(), StepOutcome::nonfinite) << "held";
      EXPECT_EQ(steps.state(), before) << name_of(dtype) << (captured ? ", captured" : "");
      steps.training.optimizer->withdraw(2);
      for (GuardedSteps* s : {&steps, &undisturbed}) s->step(4, captured);
      EXPECT_EQ(steps.outcome(), StepOutcome::taken);
      EXPECT_EQ(steps.state(), undisturbed.state()) << name_of(dtype) << (captured ? ", captured" : "");
      EXPECT_NE(steps.state(), before);
    }
}

TEST(GraphStepGuard, FindsTheLayer) {
  GuardedSteps steps(DType::f32, optim::OptimizerKind::sgd);
  steps.step(0, false);
  const auto before = steps.state();
  Training& training = steps.training;
  const auto find = [&](float scale) {
    const Training::Inputs inputs = training.upload(make_batch(4, 1));
    const Nonfinite found = find_nonfinite(
        *training.model,
        [&] {
          const Tensor x = preprocess(inputs.images, DType::f32, {});
          return softmax_cross_entropy((*training.model)(x), inputs.labels);
        },
        full({1}, static_cast<double>(scale), DType::f32, kEmulated));
    training.optimizer->buffers().restore();
    return found.where;
  };
  EXPECT_EQ(find(1), "");
  EXPECT_EQ(find(INFINITY), "softmax_cross_entropy behind fc, backward");
  steps.poisoned([&] { EXPECT_EQ(find(1), "conv.weight, a parameter"); });
  EXPECT_EQ(steps.state(), before);
}

}  // namespace
}  // namespace cairn
