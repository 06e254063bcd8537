// --init, --freeze, --lr-scale and --ema, seen from the weights that the program writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/io/safetensors.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using testing::HasSubstr;
using Weights = std::map<std::string, std::vector<float>>;

class FineTuning : public testing::Test {
 protected:
  FineTuning() { make_data(folder_, 3, 14); }

  // One epoch is 7 steps; the rate is constant, so that a longer run begins as a shorter one.
  Outcome train(const std::string& run, const std::string& more) const {
    return cairn(
        "train --data " + folder_.path("data") + " --out " + folder_.path(run) +
        " --image-size 32 --epochs 3 --patience 0 --batch-size 4 --precision fp32 --device cpu --threads "
        "1 --schedule constant --warmup-epochs 0 --augment light --quiet " +
        more);
  }
  Weights weights(const std::string& run) const {
    return read(folder_.path(run + "/checkpoints/last.safetensors"));
  }
  static Weights read(const std::string& path) {
    Weights weights;
    for (const io::StoredTensor& t : io::open_safetensors(path).tensors)
      if (t.dtype == DType::f32) weights[t.name] = io::read_floats(t);
    return weights;
  }
  data::TempFolder folder_;
};

TEST_F(FineTuning, FrozenParametersAndStatisticsStayAsTheyAre) {
  ASSERT_EQ(train("first", "--model resnet18 --max-steps 3").status, 0);
  const std::string init = " --init " + folder_.path("first/checkpoints/last.safetensors");
  const Outcome o = train("second",
                          "--model resnet18 --max-steps 3 --freeze 'conv1.*' --freeze 'bn1.*' --freeze "
                          "'layer[12].*' --freeze layer3.0.bn1.weight" +
                              init);
  ASSERT_EQ(o.status, 0) << o.err;
  const Weights before = weights("first"), after = weights("second");
  ASSERT_EQ(before.size(), after.size());
  int kept = 0;
  for (const auto& [name, values] : before) {
    const bool frozen = name.starts_with("conv1.") || name.starts_with("bn1.") ||
                        name.starts_with("layer1.") || name.starts_with("layer2.") ||
                        name == "layer3.0.bn1.weight";
    EXPECT_EQ(after.at(name) == values, frozen) << name;
    kept += frozen;
  }
  // conv1 and five tensors of bn1; 4 pairs in layer1, in layer2 these and a shortcut's; one alone.
  EXPECT_EQ(kept, 5 + 4 * 5 + 4 * 5 + 5 + 1);
}

TEST_F(FineTuning, AFactorOfZeroFreezesAndOfOneChangesNothing) {
  const std::string model = "--model model_cnn --max-steps 3 --optimizer sgd --weight-decay 0 ";
  ASSERT_EQ(train("plain", model).status, 0);
  ASSERT_EQ(train("one", model + "--lr-scale '*=1'").status, 0);
  ASSERT_EQ(train("zero", model + "--lr-scale '*=0' --lr-scale 'classifier.*=1'").status, 0);
  ASSERT_EQ(train("frozen", model + "--freeze 'features.*'").status, 0);
  ASSERT_EQ(train("half", model + "--lr-scale '*=0.5' --lr 0.02").status, 0);
  ASSERT_EQ(train("low", model + "--lr 0.01").status, 0);
  EXPECT_EQ(weights("plain"), weights("one"));
  EXPECT_EQ(weights("zero"), weights("frozen"));
  EXPECT_NE(weights("zero"), weights("plain"));
  EXPECT_EQ(weights("half"), weights("low"));
}

// The average of every step's weights, computed here in double, for all steps of two runs' lengths.
TEST_F(FineTuning, TheAverageIsThatOfTheStepsWeights) {
  const std::string model = "--model model_cnn ";
  ASSERT_EQ(train("start", model + "--max-steps 1").status, 0);
  const std::string init = " --init " + folder_.path("start/checkpoints/last.safetensors");
  std::map<std::string, std::vector<double>> want;
  for (const auto& [name, values] : weights("start")) want[name].assign(values.begin(), values.end());
  constexpr int kSteps = 5;
  for (int t = 1; t <= kSteps; ++t) {
    const std::string run = "step" + std::to_string(t);
    ASSERT_EQ(train(run, model + "--max-steps " + std::to_string(t) + init).status, 0);
    const double d = std::min(0.3, (1.0 + t) / (10.0 + t));  // 0.3 is reached at the third step
    for (const auto& [name, values] : weights(run))
      for (std::size_t i = 0; i < values.size(); ++i)
        want[name][i] = d * want[name][i] + (1 - d) * static_cast<double>(values[i]);
  }
  const Outcome o = train("average", model + "--ema 0.3 --max-steps " + std::to_string(kSteps) + init);
  ASSERT_EQ(o.status, 0) << o.err;
  for (const auto& [name, values] : weights("average"))
    for (std::size_t i = 0; i < values.size(); ++i)
      // Weights are below 1; each step rounds at most twice.
      ASSERT_NEAR(static_cast<double>(values[i]), want[name][i], 2 * kSteps * 6e-8) << name << " " << i;
  EXPECT_NE(weights("average"), weights("step5"));
}

TEST_F(FineTuning, ARunWithAnAverageResumesToTheSameBits) {
  const std::string model =
      "--model model_cnn --ema 0.9 --lr-scale 'features.*=0.1' --freeze features.0.bias ";
  ASSERT_EQ(train("whole", model).status, 0);
  ASSERT_EQ(train("cut", model + "--checkpoint-every-steps 5 --time-limit 0.001s").status, 1);
  const Outcome o =
      cairn("train --quiet --resume " + folder_.path("cut") + " --time-limit 0 --accept-changes");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(weights("whole"), weights("cut"));
}

TEST_F(FineTuning, NamesThatFitNothingAreRefusedAndTheFolderStaysFree) {
  for (const std::string bad : {"--freeze nothing", "--lr-scale nothing=0.1", "--freeze '*'"}) {
    const Outcome o = train("run", "--model model_cnn --max-steps 1 " + bad);
    EXPECT_EQ(o.status, 2) << bad;
    EXPECT_THAT(o.err, HasSubstr(bad.substr(0, bad.find(' ')))) << o.err;
  }
  for (const std::string bad : {"features.*", "features.*=x", "=1", "features.*=-1"}) {
    const Outcome o = train("run", "--model model_cnn --max-steps 1 --lr-scale '" + bad + "'");
    EXPECT_EQ(o.status, 2) << bad;
    EXPECT_THAT(o.err, HasSubstr("'layer*=0.1'"));
  }
  EXPECT_EQ(train("run", "--model model_cnn --max-steps 1").status, 0);
  EXPECT_EQ(train("run", "--model model_cnn --max-steps 1").status, 2) << "a trained run stays";
}

}  // namespace
}  // namespace cairn::app
