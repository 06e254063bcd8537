// Steps whose loss or gradients are no numbers: never taken, named by layer and pass, and what --on-nonfinite
// makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/nonfinite.h"
#include "apps/run_state.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

/// 3 classes of 8 training images; two batches of each epoch hold an image that the faulty model (plugins/)
/// stumbles over.
class NonfiniteStep : public testing::Test {
 protected:
  NonfiniteStep() {
    std::string rows = "path,label,part\n";
    for (int i = 0; i < 36; ++i) {
      const std::string name = std::to_string(i) + ".png";
      folder_.write(name, make_png(8, 8, static_cast<unsigned>(i), static_cast<unsigned>(i % 3)));
      rows += name + ",c" + std::to_string(i % 3) + (i < 24 ? ",train\n" : i < 30 ? ",val\n" : ",test\n");
    }
    std::string magenta = "P6\n8 8\n255\n";
    for (int i = 0; i < 64; ++i) magenta += std::string("\xff\x00\xff", 3);
    folder_.write("magenta.ppm", magenta);
    folder_.write("data.csv", rows + "magenta.ppm,c0,train\n");
  }
  ~NonfiniteStep() override { unsetenv("CAIRN_FAULT"); }

  std::string path(const std::string& name) const { return folder_.path(name); }
  std::string arguments(const std::string& run, const std::string& more) const {
    return "train --quiet --data " + path("data.csv") + " --out " + path(run) +
           " --plugin " CAIRN_PLUGIN_FAULTY
           " --model faulty --image-size 8 --epochs 3 --patience 0 --batch-size 4 --precision fp32 --device "
           "cpu --threads 2 --workers 2 --augment none --near-duplicates ignore " +
           more;
  }
  Outcome train(const std::string& run, const std::string& more = "") const {
    return cairn(arguments(run, more));
  }
  std::string weights(const std::string& run) const {
    return read_file(path(run + "/checkpoints/last.safetensors"));
  }
  std::vector<json> faults(const std::string& run) const {
    std::vector<json> found;
    for (const std::string& line : lines_of(read_file(path(run + "/metrics.jsonl"))))
      if (const json entry = json::parse(line); entry.at("kind") == "nonfinite") found.push_back(entry);
    return found;
  }

  data::TempFolder folder_;
};

TEST_F(NonfiniteStep, StopsAndIsNamedAndTheStateBeforeItIsSaved) {
  struct Case {
    const char* fault;
    const char* what;
    const char* where;
  };
  for (const Case& c :
       {Case{"forward", "the loss is no number", "layer.conv2, forward"},
        Case{"backward", "its gradients are not finite", "blow_up behind layer.conv2, backward"}}) {
    setenv("CAIRN_FAULT", c.fault, 1);
    const std::string cut = std::string("cut-") + c.fault, whole = std::string("whole-") + c.fault;
    const Outcome o = train(cut);
    EXPECT_EQ(o.status, 1);
    ASSERT_EQ(lines_of(o.err).size(), 1U) << o.err;
    EXPECT_THAT(o.err,
                AllOf(ContainsRegex("error: step [0-9]+ \\(epoch 1, batch [0-9]+\\): "), HasSubstr(c.what),
                      HasSubstr(std::string("first in ") + c.where), HasSubstr("the step was not taken"),
                      HasSubstr("cairn train --resume " + path(cut)), HasSubstr("--on-nonfinite skip"),
                      HasSubstr("--lr 0.0001")));
    // Gone on with by the command that it names: to the bits of a run that skipped from the beginning.
    const Outcome resumed = cairn("train --quiet --resume " + path(cut) + " --on-nonfinite skip");
    EXPECT_EQ(resumed.status, 0) << resumed.err;
    ASSERT_EQ(train(whole, "--on-nonfinite skip").status, 0);
    ASSERT_FALSE(weights(whole).empty());
    EXPECT_EQ(weights(cut), weights(whole));
  }
}

TEST_F(NonfiniteStep, SkipLeavesTheBatchOutWhenEverItIsNoticed) {
  setenv("CAIRN_FAULT", "forward", 1);
  const Outcome late = train("late", "--on-nonfinite skip");
  EXPECT_EQ(late.status, 0) << late.err;
  EXPECT_THAT(late.err,
              AllOf(HasSubstr("warning: step "), HasSubstr("first in layer.conv2, forward; the batch is "
                                                           "left out")));
  // At once, where a line is logged for each step.
  EXPECT_EQ(train("at_once", "--on-nonfinite skip --log-every-steps 1").status, 0);
  EXPECT_EQ(weights("late"), weights("at_once"));
  const std::vector<json> found = faults("late");
  ASSERT_EQ(found.size(), 3U);  // one an epoch
  EXPECT_EQ(found, faults("at_once"));
  for (std::size_t epoch = 0; epoch < found.size(); ++epoch) {
    EXPECT_EQ(found[epoch].at("epoch"), epoch + 1);
    EXPECT_EQ(found[epoch].at("where"), "layer.conv2, forward");
  }
  // What went in changed nothing: neither weights nor running statistics hold anything but numbers.
  const Outcome judged = cairn("evaluate --quiet --run " + path("late"));
  EXPECT_EQ(judged.status, 0) << judged.err;
  EXPECT_THAT(judged.out + judged.err, Not(HasSubstr("nan")));
}

TEST_F(NonfiniteStep, RewindGoesBackToTheStateAndOnAtHalfTheRate) {
  setenv("CAIRN_FAULT", "backward", 1);
  const std::string more =
      "--on-nonfinite rewind --lr 0.001 --schedule constant --warmup-epochs 0 --log-every-steps 1";
  const Outcome o = train("run", more);
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("back to the last state, and on at half the rate"));
  ASSERT_EQ(faults("run").size(), 3U);
  Console console(true, false);
  EXPECT_EQ(find_state(RunDir::open(path("run")), console).progress.at("lr_factor"), 0.125);
  // The step behind the first rewind is counted from the state on, with half the rate.
  const json first = json::parse(lines_of(read_file(path("run/metrics.jsonl"))).at(1));
  EXPECT_EQ(first.at("step"), 1);
  EXPECT_NEAR(first.at("lr").get<double>(), 1e-3 / 2, 1e-8);
  ASSERT_EQ(train("again", more).status, 0);
  EXPECT_EQ(weights("run"), weights("again"));
}

TEST_F(NonfiniteStep, WeightsThatHoldNoNumbersAreNamed) {
  ASSERT_EQ(train("clean").status, 0);
  std::string bytes = weights("clean");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  const json names = json::parse(bytes.substr(8, header));
  const auto at = names.at("layer.conv2.weight").at("data_offsets").at(0).get<std::size_t>();
  bytes.replace(8 + header + at, 4, std::string("\x00\x00\xc0\x7f", 4));
  folder_.write("bad.safetensors", bytes);
  const Outcome o = train("run", "--init " + path("bad.safetensors"));
  EXPECT_EQ(o.status, 1);
  ASSERT_EQ(lines_of(o.err).size(), 1U) << o.err;
  EXPECT_THAT(o.err, HasSubstr("first in layer.conv2.weight, a parameter"));
  EXPECT_FALSE(std::filesystem::exists(path("run/checkpoints/last.state")));
}

TEST_F(NonfiniteStep, ARateThatIsTooHighEndsTheRunWithAdvice) {
  for (const std::string policy : {"stop", "skip", "rewind"}) {
    const std::string run = "run-" + policy;
    const Outcome o =
        cairn("train --quiet --data " + path("data.csv") + " --out " + path(run) +
              " --model model_cnn --image-size 8 --epochs 60 --patience 0 --batch-size 4 --precision "
              "fp32 --device cpu --threads 2 --workers 1 --optimizer sgd --lr 900000 --warmup-epochs 0 "
              "--near-duplicates ignore --on-nonfinite " +
              policy);
    EXPECT_EQ(o.status, 1) << policy;
    ASSERT_FALSE(lines_of(o.err).empty());
    const std::string error = lines_of(o.err).back();
    EXPECT_THAT(error, AllOf(HasSubstr("error: step "), HasSubstr(", first in "), HasSubstr("--lr 90000")))
        << policy;
  }
}

TEST_F(NonfiniteStep, ALossThatStandsAtGuessingIsSaidInPlainWords) {
  setenv("CAIRN_FAULT", "zero", 1);
  const Outcome o = train("run");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err,
              AllOf(HasSubstr("the loss stands at 1.099, ln(3), which guessing among the classes gives"),
                    HasSubstr("every logit of every validation image is 0")));
}

TEST(GuessingWatch, SpeaksOnceAfterThreeEpochsOrManySteps) {
  GuessingWatch watch(7);
  EXPECT_FALSE(watch.end_epoch(1.946));
  EXPECT_FALSE(watch.end_epoch(1.946));
  EXPECT_FALSE(watch.end_epoch(1.8));
  EXPECT_FALSE(watch.end_epoch(1.950));
  EXPECT_FALSE(watch.end_epoch(1.940));
  EXPECT_TRUE(watch.end_epoch(1.946));
  EXPECT_FALSE(watch.end_epoch(1.946));
  EXPECT_THAT(watch.warning(), HasSubstr("1.946, ln(7)"));

  GuessingWatch steps(7);
  for (std::int64_t i = 1; i < 3 * GuessingWatch::kSteps; ++i) ASSERT_FALSE(steps.add(1.946)) << i;
  EXPECT_TRUE(steps.add(1.946));
  EXPECT_FALSE(steps.end_epoch(1.946));
  GuessingWatch one(1);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(one.end_epoch(0));
}

}  // namespace
}  // namespace cairn::app
