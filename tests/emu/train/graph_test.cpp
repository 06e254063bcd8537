// The step of training as a captured graph: the same bits as launched directly, and what it asks of the
// runtime.
#include "engine/graph.h"

#include <memory>
#include <optional>

#include "engine/optim/step_guard.h"
#include "kernels/emu/runtime.h"
#include "kernels/error.h"
#include "tests/emu/schedules.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

// A step as the program makes it: copies from the host first, kernels behind, those as a graph once it is
// there.
class Steps {
 public:
  Steps(std::unique_ptr<nn::Module> model, DType dtype, optim::OptimizerKind kind)
      : training_(std::move(model), kEmulated, dtype,
                  {.kind = kind, .weight_decay = 1e-4f, .clip_norm = 5.0f}),
        inputs_(training_.upload(make_batch(4, 0))) {
    guard().scale_loss({.initial_scale = 1024, .growth_interval = 3});
  }

  void step(bool captured = false) {
    const std::int64_t number = training_.optimizer->steps();
    const TestBatch batch = make_batch(4, static_cast<std::uint64_t>(number));
    inputs_.images.copy_from<std::uint8_t>(batch.pixels);
    inputs_.labels.copy_from<std::int32_t>(batch.labels);
    training_.send_step_number();
    training_.optimizer->prepare(0.01f / static_cast<float>(1 + number));
    const auto work = [this] {
      loss_ = training_.backward(inputs_, guard().scale()).loss;
      training_.optimizer->apply();
    };
    if (!captured) return work();
    if (!graph_) graph_.emplace(kEmulated, work);
    graph_->replay();
  }
  void overflow_next() {
    optim::StepGuard::State state = guard().read();
    state.scale = 0x1p24f;
    guard().restore(state);
  }
  void settle() {
    guard().restore({.scale = 512, .good_steps = 0, .skipped_steps = guard().read().skipped_steps});
  }
  optim::StepGuard::State scale() const { return guard().read(); }
  optim::StepGuard& guard() const { return training_.optimizer->guard(); }
  Training& training() { return training_; }
  void drop_graph() { graph_.reset(); }

  // Everything that a step changes.
  std::vector<std::vector<float>> state() const {
    const optim::StepGuard::State scale = guard().read();
    std::vector<std::vector<float>> all = {loss_.to_vector<float>(),
                                           training_.parameters->values().to_vector<float>(),
                                           {scale.scale, static_cast<float>(scale.good_steps)}};
    for (const nn::NamedTensor& t : training_.optimizer->state()) all.push_back(t.tensor.to_vector<float>());
    for (const nn::NamedTensor& t : training_.model->named_buffers())
      all.push_back(t.tensor.to_vector<float>());
    return all;
  }

 private:
  Training training_;
  Training::Inputs inputs_;
  Tensor loss_;
  std::optional<Graph> graph_;
};

class GraphStep : public NoReportsTest {
 protected:
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    NoReportsTest::TearDown();
  }
};

// Rate, step number and random counters move with each step, the loss scale by growth and by an overflow.
TEST_F(GraphStep, ReplaysTheBitsOfDirectLaunches) {
  struct Case {
    const char* model;
    DType dtype;
    optim::OptimizerKind kind;
    int steps;
  };
  for (const Case& c : {Case{"", DType::f16, optim::OptimizerKind::adam, 12},
                        Case{"", DType::bf16, optim::OptimizerKind::sgd, 6},
                        Case{"model_cnn", DType::f16, optim::OptimizerKind::adamw, 5},
                        Case{"resnet18", DType::f32, optim::OptimizerKind::sgd, 2}}) {
    const auto model = [&] {
      return *c.model ? models::make_model(c.model, {.classes = kClasses,
                                                     .image_size = static_cast<int>(kSize),
                                                     .seed = 20,
                                                     .dropout = {}})
                      : small_net();
    };
    Steps direct(model(), c.dtype, c.kind), captured(model(), c.dtype, c.kind);
    for (int i = 0; i < c.steps; ++i) {
      if (i == 8)
        for (Steps* s : {&direct, &captured}) s->overflow_next();
      if (i == 9) {
        EXPECT_EQ(captured.scale().skipped_steps, 1);
        for (Steps* s : {&direct, &captured}) s->settle();
      }
      direct.step();
      captured.step(i >= (c.steps > 2 ? 2 : 1));
      ASSERT_EQ(captured.state(), direct.state()) << c.model << ' ' << name_of(c.dtype) << " step " << i;
    }
  }
}

// Memory that a graph uses is nobody else's while it lives, and is handed on afterwards.
TEST_F(GraphStep, KeepsItsMemory) {
  Steps steps(small_net(), DType::f32, optim::OptimizerKind::sgd),
      alone(small_net(), DType::f32, optim::OptimizerKind::sgd);
  for (int i = 0; i < 5; ++i) alone.step();
  for (int i = 0; i < 3; ++i) steps.step(i >= 2);
  std::vector<Tensor> others;
  for (std::int64_t n = 1; n <= 1 << 16; n *= 2)
    for (int i = 0; i < 8; ++i) others.push_back(full({n}, 7.0, DType::f32, kEmulated));
  for (int i = 3; i < 5; ++i) steps.step(true);
  EXPECT_EQ(steps.state(), alone.state());
  for (const Tensor& t : others) EXPECT_EQ(t.to_vector<float>(), std::vector<float>(t.numel(), 7.0f));

  others.clear();
  steps.drop_graph();
  const std::int64_t blocks = memory_stats(kEmulated).device_allocations;
  for (int i = 0; i < 2; ++i) steps.step();
  EXPECT_EQ(memory_stats(kEmulated).device_allocations, blocks);
}

TEST_F(GraphStep, NoScheduleOfStreamsChangesABit) {
  const auto run = [] {
    Steps steps(small_net(), DType::f16, optim::OptimizerKind::adam);
    for (int i = 0; i < 5; ++i) steps.step(i >= 2);
    return steps.state();
  };
  const auto want = run();
  emu::set_schedule(emu::Schedule::late);
  EXPECT_EQ(run(), want);
  for (std::uint64_t seed = 1; seed <= schedules(); ++seed) {
    emu::set_schedule(emu::Schedule::random, seed);
    EXPECT_EQ(run(), want) << seed;
  }
}

// Nothing was run before that could have left its blocks.
TEST_F(GraphStep, TakesNewMemoryWhileItIsCaptured) {
  const Tensor x = full({1 << 16}, -1.0, DType::f32, kEmulated);
  release_cached_memory(kEmulated);
  const std::int64_t blocks = memory_stats(kEmulated).device_allocations;
  Tensor y;
  {
    const Graph graph(kEmulated, [&] { y = relu(x); });
    EXPECT_GT(memory_stats(kEmulated).device_allocations, blocks);
    graph.replay();
    EXPECT_EQ(y.to_vector<float>(), std::vector<float>(1 << 16, 0.0f));
    y = {};
  }
}

TEST_F(GraphStep, SaysWhatCannotBeCaptured) {
  EXPECT_FALSE(Graph::supported(Device{}));
  EXPECT_THROW(Graph(Device{}, [] {}), Error);
  const Tensor x = full({4}, 1.0, DType::f32, kEmulated);
  EXPECT_THROW(Graph(kEmulated, [&] { (void)x.to_vector<float>(); }), Error);
  EXPECT_THROW(Graph(kEmulated, [] { throw InputError("in between"); }), InputError);
  const Tensor y = relu(x);  // the queue works as before
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(4, 1.0f));
  const Graph graph(kEmulated, [&] { (void)relu(x); });
  graph.replay();
}

class WarmStep : public testing::TestWithParam<const char*> {};

TEST_P(WarmStep, AllocatesNothingAndWaitsForNothing) {
  Steps steps(models::make_model(
                  GetParam(),
                  {.classes = kClasses, .image_size = static_cast<int>(kSize), .seed = 20, .dropout = {}}),
              DType::f32, optim::OptimizerKind::adam);
  for (int i = 0; i < 2; ++i) steps.step();
  const auto expect_quiet = [](const emu::CallCounts& counts) {
    EXPECT_EQ(counts.allocations, 0);
    EXPECT_EQ(counts.frees, 0);
    EXPECT_EQ(counts.synchronizations, 0);
    EXPECT_EQ(counts.copies, 2 * 4);  // images, labels, step number, the optimiser's scalars
  };
  emu::reset_call_counts();
  for (int i = 0; i < 2; ++i) steps.step();
  expect_quiet(emu::call_counts());
  const std::int64_t launches = emu::call_counts().launches;
  EXPECT_GT(launches, 2 * 10);

  emu::reset_call_counts();
  steps.step(true);  // captures, then replays
  EXPECT_EQ(emu::call_counts().synchronizations, 0);
  EXPECT_EQ(emu::call_counts().allocations, 0);
  emu::reset_call_counts();
  for (int i = 0; i < 2; ++i) steps.step(true);
  expect_quiet(emu::call_counts());
  EXPECT_EQ(emu::call_counts().graph_launches, 2);
  EXPECT_EQ(emu::call_counts().launches, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, WarmStep, testing::Values("model_cnn", "resnet18"));

}  // namespace
}  // namespace cairn
