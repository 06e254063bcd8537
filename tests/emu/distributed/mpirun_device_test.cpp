// The program under mpirun on the emulated device, each process with one of its own and NCCL's stand-in
// between them: what one process learns, to the same bits twice, saved and gone on with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/run_dir.h"
#include "tests/apps/short_run.h"
#include "tests/distributed/mpirun.h"

namespace cairn::app {
namespace {

using testing::HasSubstr;

class MpirunDevice : public ShortRun {
 protected:
  void SetUp() override {
    if (!mpirun_is_there()) GTEST_SKIP() << "mpirun is not there (Debian: openmpi-bin)";
  }
  std::string train(const std::string& run, const std::string& more = "") const {
    return with(with_one_thread(ShortRun::train(run, more)), "--device cpu", "--device cuda-emu");
  }
  static std::string with(std::string arguments, const std::string& from, const std::string& to) {
    return arguments.replace(arguments.find(from), from.size(), to);
  }
  static Outcome by(int processes, const std::string& arguments) {
    return Running(arguments, processes > 1 ? mpirun(processes) : "").end();
  }
};

TEST_F(MpirunDevice, LearnsWhatOneProcessLearns) {
  const Outcome alone = by(1, train("one"));
  ASSERT_EQ(alone.status, 0) << alone.err;
  const Outcome two = by(2, train("two"));
  ASSERT_EQ(two.status, 0) << two.err;
  const auto a = RunDir::open(path("one")).epochs(), b = RunDir::open(path("two")).epochs();
  ASSERT_EQ(a.size(), 3U);
  ASSERT_EQ(b.size(), 3U);
  // The tolerance is that of twenty steps on the CPU.
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_NEAR(a[i]["train_loss"].get<double>(), b[i]["train_loss"].get<double>(), 1e-4) << i;
    EXPECT_NEAR(a[i]["val"]["loss"].get<double>(), b[i]["val"]["loss"].get<double>(), 1e-4) << i;
  }
  EXPECT_EQ(nlohmann::json::parse(read_file(path("two/config.json")))["processes"], 2);
  ASSERT_EQ(by(2, train("again")).status, 0);
  expect_same_weights("two", "again");
}

TEST_F(MpirunDevice, StopsTogetherAndGoesOn) {
  ASSERT_EQ(by(2, train("whole")).status, 0);
  const Outcome o = by(2, train("run", "--time-limit 0.001s"));
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.err, HasSubstr("stopped at --time-limit 0.001s, and saved"));
  EXPECT_EQ(position("run"), 1);
  const Outcome rest = by(2, "train --quiet --resume " + path("run") + " --time-limit 0 --device cuda-emu");
  ASSERT_EQ(rest.status, 0) << rest.err;
  expect_same_weights("whole", "run");
}

// The first step's loss is that of one process with the whole batch. Four values a channel are what the last
// stage's statistics come of, which amplifies rounding: 5e-6 seen. Without the option it is 5e-2.
TEST_F(MpirunDevice, SynchronisesBatchNorms) {
  const auto resnet = [&](const std::string& run, const std::string& more) {
    return with(train(run, "--max-steps 1 " + more), "--model model_cnn --image-size 8",
                "--model resnet18 --image-size 32");
  };
  const Outcome alone = by(1, resnet("one", ""));
  ASSERT_EQ(alone.status, 0) << alone.err;
  const Outcome two = by(2, resnet("two", "--sync-batch-norm"));
  ASSERT_EQ(two.status, 0) << two.err;
  const auto loss = [&](const char* run) {
    return RunDir::open(path(run)).epochs().at(0)["train_loss"].get<double>();
  };
  EXPECT_NEAR(loss("two") / loss("one"), 1, 1e-4);
}

}  // namespace
}  // namespace cairn::app
