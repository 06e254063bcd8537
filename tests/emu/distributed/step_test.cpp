// Steps of the program's learner by ranks on emulated devices: those of one process with the whole batch, the
// same bits on all ranks and in every schedule, launched or as a graph.
#include <gmock/gmock.h>

#include <iostream>

#include "apps/processes.h"
#include "tests/distributed/workshop.h"
#include "tests/emu/distributed/device_ranks.h"
#include "tests/emu/schedules.h"

namespace cairn::app {
namespace {

using distributed::Communicator;

class Steps : public distributed::DeviceRanks {
 public:
  using DeviceRanks::run;
};
using Synchronised = distributed::DeviceRanks;  // with --sync-batch-norm

constexpr Device kFirst{DeviceType::cuda_emu, 0};

// Steps from the same states, with batches of the sizes given: loss, gradients, what batch norms learn.
void expect_steps_of_one_process(const Case& c, const std::vector<std::int64_t>& sizes) {
  Workshop workshop(c);
  struct Step {
    GlobalBatch batch;
    State before;
    double loss = 0;
    Values gradients, buffers;
  };
  std::vector<Step> steps;
  {
    const auto alone = workshop.learner(nullptr, 1, kFirst);
    for (const std::int64_t size : sizes) {
      const auto number = static_cast<std::uint64_t>(steps.size());
      Step s{make_batch(size, workshop.side(), number, number == 1), state_of(*alone), 0, {}, {}};
      s.loss = alone->step().run(s.batch.part(0, 1), c.lr).item();
      s.gradients = gradients_of(*alone);
      s.buffers = values_of(alone->model().named_buffers());
      steps.push_back(std::move(s));
    }
  }
  Steps::run(c.world, [&](Communicator& processes, Device device) {
    const auto learner = workshop.learner(&processes, 1, device);
    double worst = 0, worst_loss = 0;
    for (const Step& s : steps) {
      set_state(*learner, s.before);
      const double loss = learner->step().run(s.batch.part(processes.rank(), c.world), c.lr).item();
      EXPECT_NEAR(loss / s.loss, 1, 1e-6) << "rank " << processes.rank() << ", step " << s.before.steps;
      worst_loss = std::max(worst_loss, std::abs(loss / s.loss - 1));
      const Values gradients = gradients_of(*learner), buffers = values_of(learner->model().named_buffers());
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        const double d = distance(gradients[i], s.gradients[i]);
        EXPECT_LT(d, gradient_spread(c.model)) << "parameter " << i;
        worst = std::max(worst, d);
      }
      // Running statistics come of the same sums: some roundings of fp32.
      for (std::size_t i = 0; i < buffers.size(); ++i)
        EXPECT_LT(distance(buffers[i], s.buffers[i]), 1e-5) << "buffer " << i;
    }
    require_same_weights(processes, learner->model());
    if (processes.is_first())
      std::cout << c.world << " ranks: loss " << worst_loss << ", gradients " << worst << '\n';
  });
}

TEST_F(Steps, OfModelCnnAreThoseOfOneProcess) {
  for (const int world : {2, 4})
    expect_steps_of_one_process({.model = "model_cnn", .world = world}, {kBatch, kBatch, 5});
}

// The fourth of four ranks has no image of a batch of five: it takes part in the sums, and counts for none.
TEST_F(Synchronised, StepsOfResNet18AreThoseOfOneProcess) {
  expect_steps_of_one_process({.model = "resnet18", .world = 2}, {kBatch, kBatch});
  expect_steps_of_one_process({.model = "resnet18", .world = 4}, {5});
}

// Losses and weights behind each step.
struct Course {
  std::vector<float> losses;
  Values weights;
};
Course course_of(const std::string& model, int steps, bool graphs = true, bool sync = false) {
  const Case c{.model = model, .world = 2, .sync = sync};
  Workshop workshop(c);
  Course course;
  distributed::LocalNet net(2);
  distributed::run_ranks(net, {}, [&](Communicator& processes) {
    const auto learner =
        workshop.learner(&processes, 1, Device{DeviceType::cuda_emu, processes.rank()}, graphs);
    std::vector<float> losses;
    for (int i = 0; i < steps; ++i) {
      const GlobalBatch batch = make_batch(kBatch, workshop.side(), static_cast<std::uint64_t>(i), false);
      losses.push_back(static_cast<float>(learner->step().run(batch.part(processes.rank(), 2), c.lr).item()));
    }
    require_same_weights(processes, learner->model());
    if (processes.is_first()) course = {losses, values_of(learner->model().named_tensors())};
  });
  return course;
}

// From the fourth whole batch on the program replays a graph, in which the sums are.
TEST_F(Steps, AreTheSameBitsInEveryScheduleAndAsAGraph) {
  emu::reset_call_counts();
  const Course want = course_of("model_cnn", 6);
  EXPECT_EQ(emu::call_counts().graph_launches, 2 * 3);
  emu::reset_call_counts();
  const Course direct = course_of("model_cnn", 6, false);
  EXPECT_EQ(emu::call_counts().graph_launches, 0);
  EXPECT_EQ(direct.losses, want.losses);
  EXPECT_EQ(direct.weights, want.weights);
  for (const std::uint64_t seed : {1, 2, 3}) {
    emu::set_schedule(emu::Schedule::random, seed);
    const Course other = course_of("model_cnn", 6);
    EXPECT_EQ(other.losses, want.losses) << seed;
    EXPECT_EQ(other.weights, want.weights) << seed;
  }
}

// Each rank normalises by its own images; running statistics are averaged, and all ranks hold the same bits.
TEST_F(Steps, OfResNet18GiveAllRanksTheSameBits) {
  const Course once = course_of("resnet18", 2);
  EXPECT_EQ(course_of("resnet18", 2).weights, once.weights);
}

TEST_F(Synchronised, StepsOfResNet18AreTheSameBitsAsAGraph) {
  emu::reset_call_counts();
  const Course replayed = course_of("resnet18", 4, true, true);
  EXPECT_EQ(emu::call_counts().graph_launches, 2);
  emu::reset_call_counts();
  const Course direct = course_of("resnet18", 4, false, true);
  EXPECT_EQ(emu::call_counts().graph_launches, 0);
  EXPECT_EQ(direct.losses, replayed.losses);
  EXPECT_EQ(direct.weights, replayed.weights);
}

}  // namespace
}  // namespace cairn::app
