// A step that is no number on one rank's part alone: all ranks stop, skip or go back together, and it is told
// once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "apps/run_state.h"
#include "tests/distributed/mpirun.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// 3 classes of 8 training images, and one image over which the faulty model stumbles: in each epoch one of
/// the ranks has it.
class NonfiniteRank : public testing::TestWithParam<const char*> {
 protected:
  NonfiniteRank() {
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
  ~NonfiniteRank() override { unsetenv("CAIRN_FAULT"); }
  void SetUp() override {
    if (!mpirun_is_there()) GTEST_SKIP() << "mpirun is not there (Debian: openmpi-bin)";
    setenv("CAIRN_FAULT", GetParam(), 1);
  }

  std::string path(const std::string& name) const { return folder_.path(name); }
  static Outcome by_two(const std::string& arguments) {
    return Running(arguments, mpirun(2, "-x CAIRN_FAULT")).end();
  }
  Outcome train(const std::string& run, const std::string& more = "") const {
    return by_two("train --quiet --data " + path("data.csv") + " --out " + path(run) +
                  " --plugin " CAIRN_PLUGIN_FAULTY
                  " --model faulty --image-size 8 --epochs 3 --patience 0 --batch-size 4 --precision fp32 "
                  "--device cpu --threads 1 --workers 1 --augment none --near-duplicates ignore " +
                  more);
  }
  std::string weights(const std::string& run) const {
    return read_file(path(run + "/checkpoints/last.safetensors"));
  }
  std::size_t faults(const std::string& run) const {
    std::size_t found = 0;
    for (const std::string& line : lines_of(read_file(path(run + "/metrics.jsonl"))))
      found += json::parse(line).at("kind") == "nonfinite";
    return found;
  }
  static std::vector<std::string> told(const Outcome& o, const std::string& beginning) {
    std::vector<std::string> lines;
    for (const std::string& line : lines_of(o.err))
      if (line.starts_with(beginning)) lines.push_back(line);
    return lines;
  }

  data::TempFolder folder_;
};

TEST_P(NonfiniteRank, StopsAllAndGoesOn) {
  const Outcome o = train("cut");
  EXPECT_NE(o.status, 0);
  const auto errors = told(o, "error: ");
  ASSERT_EQ(errors.size(), 1U) << o.err;
  EXPECT_THAT(errors[0], AllOf(HasSubstr("error: step "), HasSubstr("layer.conv2, "), HasSubstr(GetParam()),
                               HasSubstr("the step was not taken")));
  const Outcome resumed = by_two("train --quiet --resume " + path("cut") + " --on-nonfinite skip");
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  const Outcome whole = train("whole", "--on-nonfinite skip");
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_EQ(told(whole, "warning: step ").size(), 3U) << whole.err;  // one an epoch
  EXPECT_EQ(faults("whole"), 3U);
  ASSERT_FALSE(weights("whole").empty());
  EXPECT_TRUE(weights("cut") == weights("whole"));
}

TEST_P(NonfiniteRank, TakesAllBackToTheState) {
  const std::string more =
      "--on-nonfinite rewind --lr 0.001 --schedule constant --warmup-epochs 0 --log-every-steps 1";
  const Outcome o = train("run", more);
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(faults("run"), 3U);
  Console console(true, false);
  EXPECT_EQ(find_state(RunDir::open(path("run")), console).progress.at("lr_factor"), 0.125);
  ASSERT_EQ(train("again", more).status, 0);
  EXPECT_TRUE(weights("run") == weights("again"));
}

INSTANTIATE_TEST_SUITE_P(Passes, NonfiniteRank, testing::Values("forward", "backward"));

}  // namespace
}  // namespace cairn::app
