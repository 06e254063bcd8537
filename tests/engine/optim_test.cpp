#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd.h"
#include "engine/nn/init.h"
#include "engine/optim/clip.h"
#include "engine/optim/optimizer.h"
#include "engine/optim/schedule.h"
#include "tests/fixture_file.h"

namespace cairn {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Parameters of odd sizes, so that slices do not lie side by side.
struct Odd : nn::Module {
  Odd()
      : first(register_parameter("first", from_values<float>({3}, std::vector<float>{1, 2, 3}))),
        second(register_parameter("second", from_values<float>({5, 7}, std::vector<float>(35, 0.5f)))) {}
  Tensor forward(const Tensor& x) override { return x; }
  Tensor& first;
  Tensor& second;
};

TEST(FlatParameters, AliasesTheModulesTensors) {
  Odd module;
  optim::FlatParameters flat(module);
  ASSERT_EQ(flat.slices().size(), 2u);
  for (const auto& slice : flat.slices()) EXPECT_EQ(slice.offset % 16, 0) << slice.parameter.name;
  const std::vector<float> values = flat.values().to_vector<float>();
  EXPECT_EQ(std::vector<float>(values.begin(), values.begin() + 4), (std::vector<float>{1, 2, 3, 0}));
  flat.values().copy_from<float>(std::vector<float>(values.size(), 4.0f));
  EXPECT_THAT(module.first.to_vector<float>(), Each(4.0f));
  EXPECT_THAT(module.named_parameters()[1].tensor.to_vector<float>(), Each(4.0f));
}

TEST(FlatParameters, GradientsLandInTheBufferAndUnusedOnesAreCleared) {
  Odd module;
  optim::FlatParameters flat(module);
  add(sum(affine(module.first, 2.0f)), sum(affine(module.second, 3.0f))).backward();
  EXPECT_NEAR(flat.grads().to_doubles()[0], 2, 0);
  flat.zero_grad();
  sum(affine(module.second, 5.0f)).backward();
  flat.clear_unused_grads();
  const std::vector<double> grads = flat.grads().to_doubles();
  double total = 0;
  for (const double g : grads) total += g;
  EXPECT_EQ(total, 5.0 * 35);
  EXPECT_EQ(grads[0], 0);
}

TEST(FlatParameters, LeavesFrozenParametersAlone) {
  Odd module;
  module.second.set_requires_grad(false);
  optim::FlatParameters flat(module);
  EXPECT_EQ(flat.slices().size(), 1u);
  module.first.set_requires_grad(false);
  EXPECT_THAT([&] { optim::FlatParameters none(module); }, ThrowsMessage<Error>(HasSubstr("no parameter")));
}

/// One vector whose gradients the test gives.
struct Given : nn::Module {
  explicit Given(Tensor start) : p(register_parameter("p", std::move(start))) {}
  Tensor forward(const Tensor& x) override { return mul(p, x); }
  Tensor& p;
};

class OptimizerAgainstTorch : public testing::TestWithParam<std::pair<const char*, optim::OptimizerOptions>> {
};

TEST_P(OptimizerAgainstTorch, FollowsTheGradients) {
  const auto& [name, options] = GetParam();
  const nlohmann::json fixture = test::fixture_json("torch_optim.json");
  const auto n = fixture["elements"].get<std::int64_t>();
  const auto draw = [n](std::uint64_t ordinal, double bound) {
    nn::Initializer init(20);  // the script's seed; the ordinal counts tensors made
    for (std::uint64_t skip = 0; skip < ordinal; ++skip) init.constant({}, 0.0);
    return init.uniform({n}, bound);
  };
  Given module(draw(500, 1.0));
  optim::FlatParameters flat(module);
  const auto optimizer = optim::make_optimizer(flat, options);
  const float lr = options.kind == optim::OptimizerKind::sgd ? 0.1f : 0.01f;
  for (int step = 0; step < fixture["steps"].get<int>(); ++step) {
    optimizer->zero_grad();
    sum(module(draw(501 + static_cast<std::uint64_t>(step), 0.5))).backward();
    optimizer->step(lr);
    const bool last = step + 1 == fixture["steps"].get<int>();
    if (step > 0 && !last) continue;
    const auto& want = fixture["variants"][name][last ? "last" : "first"];
    const std::vector<float> got = module.p.to_vector<float>();
    for (std::size_t i = 0; i < got.size(); ++i)
      EXPECT_NEAR(static_cast<double>(got[i]), want[i].get<double>(), 1e-6)
          << "step " << step << ", element " << i;
  }
  EXPECT_EQ(optimizer->steps(), fixture["steps"].get<std::int64_t>());
}

using optim::OptimizerKind;
INSTANTIATE_TEST_SUITE_P(
    Variants, OptimizerAgainstTorch,
    testing::Values(std::pair("sgd", optim::OptimizerOptions{.kind = OptimizerKind::sgd, .momentum = 0}),
                    std::pair("sgd_momentum_decay",
                              optim::OptimizerOptions{.kind = OptimizerKind::sgd, .weight_decay = 0.05f}),
                    std::pair("sgd_nesterov_clip",
                              optim::OptimizerOptions{
                                  .kind = OptimizerKind::sgd, .nesterov = true, .clip_norm = 1.0f}),
                    std::pair("adam", optim::OptimizerOptions{}),
                    std::pair("adam_decay", optim::OptimizerOptions{.weight_decay = 0.1f}),
                    std::pair("adamw_clip", optim::OptimizerOptions{.kind = OptimizerKind::adamw,
                                                                    .weight_decay = 0.1f,
                                                                    .beta1 = 0.8f,
                                                                    .beta2 = 0.95f,
                                                                    .eps = 1e-6f,
                                                                    .clip_norm = 0.5f})),
    [](const auto& param) { return std::string(param.param.first); });

TEST(Optimizer, GradientScaleUndoesALossScale) {
  Given scaled(from_values<float>({2}, std::vector<float>{1, 2}));
  optim::FlatParameters flat(scaled);
  const auto optimizer = optim::make_optimizer(flat, {.kind = OptimizerKind::sgd, .momentum = 0});
  sum(scaled(from_values<float>({2}, std::vector<float>{1024, 2048}))).backward();
  optimizer->prepare(0.5f, 1.0f / 1024);
  optimizer->apply();
  EXPECT_THAT(scaled.p.to_vector<float>(), ElementsAre(0.5f, 1.0f));
}

TEST(Optimizer, RefusesOptionsOutOfRange) {
  Odd module;
  optim::FlatParameters flat(module);
  const auto make = [&](optim::OptimizerOptions options) {
    return [&flat, options] { optim::make_optimizer(flat, options); };
  };
  EXPECT_THAT(make({.weight_decay = -1}), ThrowsMessage<InputError>(HasSubstr("weight decay is -1")));
  EXPECT_THAT(make({.momentum = 1}), ThrowsMessage<InputError>(HasSubstr("momentum")));
  EXPECT_THAT(make({.beta2 = NAN}), ThrowsMessage<InputError>(HasSubstr("beta2")));
  EXPECT_THAT(make({.momentum = 0, .nesterov = true}), ThrowsMessage<InputError>(HasSubstr("Nesterov")));
  EXPECT_THAT([] { optim::parse_optimizer("adagrad"); },
              ThrowsMessage<InputError>(HasSubstr("sgd, adam, adamw")));
}

TEST(GlobalNorm, IsAccurateOverManyElements) {
  // Ones and one large value: a plain fp32 sum would lose the ones.
  std::vector<float> values(1 << 20, 1.0f);
  values[77] = 4096.0f;
  const Tensor norm = zeros({1});
  optim::global_norm(from_values<float>({1 << 20}, values), norm);
  const double exact = std::sqrt(4096.0 * 4096.0 + (1 << 20) - 1);
  EXPECT_NEAR(norm.item(), exact, exact * 6e-8);  // one rounding to fp32
}

void expect_schedule(const optim::Schedule& schedule, const char* name) {
  const auto want = test::fixture_json("torch_optim.json")["schedules"][name];
  for (std::size_t step = 0; step < want.size(); ++step)
    EXPECT_NEAR(static_cast<double>(schedule.lr(static_cast<std::int64_t>(step))), want[step].get<double>(),
                1e-8)
        << name << " step " << step;
}

TEST(Schedule, AgreesWithTorch) {
  using optim::ScheduleKind;
  expect_schedule({.kind = ScheduleKind::cosine, .base_lr = 0.1f, .total_steps = 20}, "cosine");
  expect_schedule({.kind = ScheduleKind::step, .base_lr = 0.1f, .decay_every = 6, .gamma = 0.3f}, "step");
  expect_schedule({.kind = ScheduleKind::cosine, .base_lr = 0.1f, .warmup_steps = 5, .total_steps = 20},
                  "warmup_cosine");
}

TEST(Schedule, EndsAtZeroAndStaysThere) {
  const optim::Schedule cosine{
      .kind = optim::ScheduleKind::cosine, .base_lr = 1, .warmup_steps = 2, .total_steps = 10};
  EXPECT_FLOAT_EQ(cosine.lr(0), 0.5f);
  EXPECT_FLOAT_EQ(cosine.lr(2), 1.0f);
  EXPECT_NEAR(static_cast<double>(cosine.lr(10)), 0, 1e-9);
  EXPECT_NEAR(static_cast<double>(cosine.lr(1000)), 0, 1e-9);
  EXPECT_FLOAT_EQ((optim::Schedule{.base_lr = 0.3f}).lr(12345), 0.3f);
}

}  // namespace
}  // namespace cairn
