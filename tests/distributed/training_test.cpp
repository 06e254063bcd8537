// Several processes (threads here, with messages in random order between them) train as one does on the same
// batches: each step from the same state, for all models, and ModelCNN over twenty.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>

#include "apps/learner.h"
#include "apps/processes.h"
#include "kernels/cpu/parallel.h"
#include "tests/distributed/local_transport.h"
#include "tests/distributed/workshop.h"

namespace cairn::app {
namespace {

using distributed::Communicator;
using distributed::LocalNet;

// Sums are added in another order. Sanitizers make code that adds them in yet another one: 1.1e-6 seen.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kLossDistance = 2e-6;
#else
constexpr double kLossDistance = 1e-6;
#endif

class Parallel : public testing::TestWithParam<Case> {
 protected:
  // Ranks are threads: kernels must not make threads of their own in each.
  Parallel() : threads_(kernels::num_threads()) { kernels::set_num_threads(1); }
  ~Parallel() override { kernels::set_num_threads(threads_); }
  int threads_;
};

TEST_P(Parallel, EachStepIsThatOfOneProcess) {
  const Case& c = GetParam();
  const int steps_of_case = c.model == "model_cnn" ? 3 : 2;
  Workshop workshop(c);
  struct Step {
    GlobalBatch batch;
    State before;
    double loss;
    Values gradients, buffers;
  };
  std::vector<Step> steps;
  {
    const auto alone = workshop.learner(nullptr, 1);
    for (int i = 0; i < steps_of_case; ++i) {
      const std::int64_t size = i + 1 == steps_of_case ? c.last : kBatch;
      Step s{make_batch(size, workshop.side(), static_cast<std::uint64_t>(i), i == 1),
             state_of(*alone),
             0,
             {},
             {}};
      s.loss = alone->step().run(s.batch.part(0, 1), c.lr).item();
      s.gradients = gradients_of(*alone);
      s.buffers = values_of(alone->model().named_buffers());
      steps.push_back(std::move(s));
    }
  }
  double worst = 0, worst_loss = 0;
  std::string worst_name;
  const auto compare = [&](Learner& learner, int rank, int world) {
    for (const Step& s : steps) {
      set_state(learner, s.before);
      const double loss = learner.step().run(s.batch.part(rank, world), c.lr).item();
      EXPECT_NEAR(loss / s.loss, 1, kLossDistance) << "rank " << rank << ", step " << s.before.steps;
      const Values gradients = gradients_of(learner), buffers = values_of(learner.model().named_buffers());
      const auto names = learner.model().named_parameters();
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        const double d = distance(gradients[i], s.gradients[i]);
        EXPECT_LT(d, gradient_spread(c.model)) << names[i].name << ", rank " << rank;
        if (rank == 0 && d > worst) worst = d, worst_name = names[i].name;
      }
      if (rank == 0) worst_loss = std::max(worst_loss, std::abs(loss / s.loss - 1));
      // Running statistics come of the same sums: some roundings of fp32.
      for (std::size_t i = 0; i < buffers.size(); ++i) EXPECT_LT(distance(buffers[i], s.buffers[i]), 1e-5);
    }
  };
  if (c.world == 1) {
    compare(*workshop.learner(nullptr, c.accumulate), 0, 1);
  } else {
    LocalNet net(c.world);
    distributed::run_ranks(net, {}, [&](Communicator& processes) {
      const auto learner = workshop.learner(&processes, c.accumulate);
      compare(*learner, processes.rank(), c.world);
      EXPECT_NO_THROW(require_same_weights(processes, learner->model()));
    });
  }
  std::cout << "loss " << worst_loss << ", gradients " << worst << " (" << worst_name << ")\n";
}

INSTANTIATE_TEST_SUITE_P(
    Processes, Parallel,
    testing::Values(Case{.model = "model_cnn", .world = 2}, Case{.model = "model_cnn", .world = 4, .last = 5},
                    Case{.model = "model_cnn", .world = 2, .accumulate = 2, .balance = "inverse", .last = 3},
                    Case{.model = "model_cnn", .world = 1, .accumulate = 4, .last = 5},
                    Case{.model = "model_cnn", .world = 1, .accumulate = 2, .balance = "effective"},
                    Case{.model = "resnet18", .world = 2}, Case{.model = "resnet18", .world = 4, .last = 5},
                    Case{.model = "resnet_classes", .world = 2, .balance = "inverse"},
                    Case{.model = "resnet_classes", .world = 4}));

TEST_F(Parallel, ModelCnnFollowsOneProcessForTwentySteps) {
  const Case c{.model = "model_cnn"};
  Workshop workshop(c);
  constexpr std::uint64_t kSteps = 20;
  std::vector<double> alone;
  {
    const auto learner = workshop.learner(nullptr, 1);
    for (std::uint64_t i = 0; i < kSteps; ++i)
      alone.push_back(
          learner->step().run(make_batch(kBatch, workshop.side(), i, false).part(0, 1), 2e-4f).item());
  }
  for (const int world : {2, 4}) {
    LocalNet net(world, 7);
    distributed::run_ranks(net, {}, [&](Communicator& processes) {
      const auto learner = workshop.learner(&processes, 1);
      for (std::uint64_t i = 0; i < kSteps; ++i) {
        const GlobalBatch batch = make_batch(kBatch, workshop.side(), i, false);
        const double loss = learner->step().run(batch.part(processes.rank(), world), 2e-4f).item();
        EXPECT_NEAR(loss / alone[i], 1, 1e-4) << "step " << i;
        require_same_weights(processes, learner->model());
      }
    });
  }
}

// Each process then normalises by its own images: another computation, but one that all ranks share.
TEST_F(Parallel, WithoutSynchronisedBatchNormAllHoldTheSameBits) {
  const Case c{.model = "resnet18", .world = 2, .sync = false};
  Workshop workshop(c);
  const GlobalBatch batch = make_batch(kBatch, workshop.side(), 0, false);
  const auto alone = workshop.learner(nullptr, 1);
  const double loss = alone->step().run(batch.part(0, 1), c.lr).item();
  const Values gradients = gradients_of(*alone), buffers = values_of(alone->model().named_buffers());
  const auto names = alone->model().named_buffers();
  LocalNet net(c.world);
  distributed::run_ranks(net, {}, [&](Communicator& processes) {
    const auto learner = workshop.learner(&processes, 1);
    const double own = learner->step().run(batch.part(processes.rank(), c.world), c.lr).item();
    require_same_weights(processes, learner->model());
    if (processes.rank() != 0) return;
    const Values now = gradients_of(*learner), statistics = values_of(learner->model().named_buffers());
    double difference = 0;
    for (std::size_t i = 0; i < now.size(); ++i)
      difference = std::max(difference, distance(now[i], gradients[i]));
    std::cout << "loss " << own << " in place of " << loss << ", gradients differ by up to " << difference
              << '\n';
    // The first layer sees the same: the mean over all images is the mean of the processes' means.
    EXPECT_EQ(names[0].name, "bn1.running_mean");
    EXPECT_LT(distance(statistics[0], buffers[0]), 1e-5);
    // A step that is not taken gives these values back, wherever they lie.
    for (const nn::NamedTensor& b : learner->model().named_buffers())
      if (b.tensor.dtype() == DType::f32)
        b.tensor.copy_from<float>(std::vector<float>(static_cast<std::size_t>(b.tensor.numel()), 7));
    learner->optimizer().buffers().restore();
    EXPECT_EQ(values_of(learner->model().named_buffers()), statistics);
  });
}

TEST(Shards, EvaluationPutsTheBatchesTogetherAgain) {
  for (const std::int64_t n : {1, 63, 64, 65, 200, 520}) {
    for (const int world : {1, 2, 3, 5}) {
      std::vector<std::int64_t> items;
      for (std::int64_t i = 0; i < n; ++i) items.push_back(3 * i + 1);
      LocalNet net(world);
      distributed::run_ranks(net, {}, [&](Communicator& processes) {
        Predictions own;
        own.classes = 2;
        own.items = own_batches(items, kPredictBatch, processes.rank(), world);
        for (const std::int64_t item : own.items) {
          own.labels.push_back(static_cast<std::int32_t>(item % 2));
          own.logits.push_back(static_cast<float>(item));
          own.logits.push_back(-1);
        }
        const Predictions all = gather_predictions(processes, own);
        ASSERT_EQ(all.items, items);
        for (std::size_t i = 0; i < items.size(); ++i) {
          ASSERT_EQ(all.labels[i], items[i] % 2);
          ASSERT_EQ(all.logits_of(i)[0], static_cast<float>(items[i]));
        }
      });
    }
  }
}

TEST(Shards, ADifferentWeightIsNamed) {
  LocalNet net(3);
  Workshop workshop({.model = "model_cnn"});
  distributed::run_ranks(net, {}, [&](Communicator& processes) {
    const auto learner = workshop.learner(&processes, 1);
    require_same_weights(processes, learner->model());
    const Tensor bias = learner->model().named_parameters()[1].tensor;
    if (processes.rank() == 2) {
      std::vector<float> values = bias.to_vector<float>();
      values[3] = std::nextafter(values[3], 9.0f);
      bias.copy_from<float>(values);
    }
    try {
      require_same_weights(processes, learner->model());
      ADD_FAILURE() << "nothing was noticed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("rank 2 on "), std::string::npos) << error.what();
    }
    share_state(processes, learner->model(), learner->optimizer());
    EXPECT_NO_THROW(require_same_weights(processes, learner->model()));
  });
}

}  // namespace
}  // namespace cairn::app
