// The program under mpirun, as a person runs it: what it learns, what it writes, how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/run_dir.h"
#include "tests/apps/short_run.h"
#include "tests/distributed/mpirun.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class Mpirun : public ShortRun {
 protected:
  void SetUp() override {
    if (!mpirun_is_there()) GTEST_SKIP() << "mpirun is not there (Debian: openmpi-bin)";
  }
  std::string train(const std::string& run, const std::string& more = "") const {
    return with_one_thread(ShortRun::train(run, more));
  }
  Outcome by(int processes, const std::string& arguments) const {
    return Running(arguments, processes > 1 ? mpirun(processes) : "").end();
  }
  std::vector<nlohmann::json> epochs(const std::string& run) const {
    return RunDir::open(path(run)).epochs();
  }
  // The errors that cairn itself printed, beside mpirun's words.
  static std::vector<std::string> errors_of(const Outcome& o) {
    std::vector<std::string> errors;
    for (const std::string& line : lines_of(o.err))
      if (line.starts_with("error: ")) errors.push_back(line);
    return errors;
  }
  static double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  void expect_close(const std::string& run, const std::string& other, double tolerance) const {
    const auto a = epochs(run), b = epochs(other);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i]["step"], b[i]["step"]);
      EXPECT_NEAR(a[i]["train_loss"].get<double>(), b[i]["train_loss"].get<double>(), tolerance) << i;
      EXPECT_NEAR(a[i]["val"]["loss"].get<double>(), b[i]["val"]["loss"].get<double>(), tolerance) << i;
    }
  }
};

// Oversampled, augmented, with dropout: all of it by position. The tolerance is that of twenty steps.
TEST_F(Mpirun, LearnsWhatOneProcessLearnsAndWritesOnce) {
  const Outcome alone = by(1, train("one", "--json"));
  ASSERT_EQ(alone.status, 0) << alone.err;
  const Outcome two = by(2, train("two", "--json"));
  ASSERT_EQ(two.status, 0) << two.err;
  expect_close("two", "one", 1e-4);
  ASSERT_EQ(lines_of(two.out).size(), 1U) << two.out;
  const nlohmann::json a = nlohmann::json::parse(alone.out), b = nlohmann::json::parse(two.out);
  for (const char* part : {"val", "test"}) EXPECT_EQ(a[part]["n"], b[part]["n"]);
  // A line an epoch and a step, in their order.
  const auto lines = lines_of(read_file(path("two/metrics.jsonl")));
  EXPECT_EQ(lines.size(), lines_of(read_file(path("one/metrics.jsonl"))).size());
  std::int64_t step = 0;
  for (const std::string& line : lines) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    if (entry["kind"] != "step") continue;
    EXPECT_EQ(entry["step"].get<std::int64_t>(), ++step);
  }
  EXPECT_EQ(nlohmann::json::parse(read_file(path("two/config.json")))["processes"], 2);
  // And to the same bits again.
  ASSERT_EQ(by(2, train("again")).status, 0);
  expect_same_weights("two", "again");
}

TEST_F(Mpirun, PartialBatchesAndWeightsCountAsInOneProcess) {
  const std::string more = "--no-shuffle --balance effective --accumulate 2 --batch-size 8 --clip-norm 1";
  ASSERT_EQ(by(1, train("one", more)).status, 0);
  const Outcome o = by(4, train("four", more + " --accumulate 1"));
  ASSERT_EQ(o.status, 0) << o.err;
  expect_close("four", "one", 1e-4);
}

TEST_F(Mpirun, StopsTogetherAndGoesOn) {
  ASSERT_EQ(by(2, train("whole")).status, 0);
  const Outcome o = by(2, train("run", "--time-limit 0.001s"));
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(errors_of(o), testing::ElementsAre(HasSubstr("stopped at --time-limit 0.001s, and saved")))
      << o.err;
  EXPECT_EQ(position("run"), 1);
  const Outcome rest = by(2, "train --quiet --resume " + path("run") + " --time-limit 0");
  ASSERT_EQ(rest.status, 0) << rest.err;
  expect_same_weights("whole", "run");
}

TEST_F(Mpirun, AnotherNumberOfProcessesGoesOn) {
  ASSERT_EQ(by(1, train("whole")).status, 0);
  ASSERT_NE(by(2, train("run", "--time-limit 0.001s")).status, 0);
  for (const int processes : {4, 1}) {
    const bool last = processes == 1;
    const Outcome o =
        by(processes, "train --quiet --resume " + path("run") + " --time-limit " + (last ? "0" : "0.001s"));
    EXPECT_EQ(o.status == 0, last) << o.err;
    EXPECT_THAT(o.err, HasSubstr(last ? "trained by 4 processes, and goes on with 1"
                                      : "trained by 2 processes, and goes on with 4"));
  }
  expect_close("run", "whole", 1e-4);
}

TEST_F(Mpirun, ASignalToOneStopsAll) {
  ASSERT_EQ(by(2, train("whole", "--epochs 6")).status, 0);
  for (const int signal : {SIGTERM, SIGUSR1}) {
    std::filesystem::remove_all(path("run"));
    Running run(train("run", "--epochs 6"), mpirun(2));
    ASSERT_TRUE(run.wait_for([&] { return position("run") >= 2; }));
    // mpirun hands SIGUSR1 on; SIGTERM goes to a rank that writes nothing.
    kill(signal == SIGUSR1 ? run.pid() : rank_below(run.pid(), 1), signal);
    const Outcome o = run.end();
    EXPECT_NE(o.status, 0);
    EXPECT_THAT(errors_of(o), testing::ElementsAre(HasSubstr("stopped by a signal, and saved"))) << o.err;
    const Outcome rest = by(2, "train --quiet --resume " + path("run"));
    ASSERT_EQ(rest.status, 0) << rest.err;
    expect_same_weights("whole", "run");
  }
}

TEST_F(Mpirun, AKilledRankIsNamedAndTheRunGoesOn) {
  ASSERT_EQ(by(2, train("whole", "--epochs 6")).status, 0);
  Running run(train("run", "--epochs 6"), mpirun(2));
  ASSERT_TRUE(run.wait_for([&] { return position("run") >= 3; }));
  const auto begin = std::chrono::steady_clock::now();
  kill(rank_below(run.pid(), 1), SIGKILL);
  const Outcome o = run.end();
  EXPECT_LT(seconds_since(begin), 20);
  EXPECT_NE(o.status, 0);
  // By mpirun, which has the process for its child.
  EXPECT_THAT(o.err + o.out, AllOf(HasSubstr("rank 1"), HasSubstr("signal 9")));
  const Outcome rest = by(2, "train --quiet --resume " + path("run"));
  ASSERT_EQ(rest.status, 0) << rest.err;
  expect_same_weights("whole", "run");
}

TEST_F(Mpirun, AHungRankIsNamedInTime) {
  Running run(train("run", "--epochs 1000 --peer-timeout 3s"), mpirun(2));
  ASSERT_TRUE(run.wait_for([&] { return position("run") >= 1; }));
  const pid_t hung = rank_below(run.pid(), 1);
  const auto begin = std::chrono::steady_clock::now();
  kill(hung, SIGSTOP);
  const Outcome o = run.end();
  EXPECT_LT(seconds_since(begin), 20);
  EXPECT_NE(o.status, 0);
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const auto errors = errors_of(o);
  ASSERT_FALSE(errors.empty()) << o.err;
  // mpirun may wake the hung rank before it kills it: then that one misses rank 0, and says so in a second
  // line.
  EXPECT_THAT(errors.front(),
              AllOf(HasSubstr("rank 1 on " + std::string(host) + " has not been heard of for 3 s"),
                    HasSubstr("cairn train --resume " + path("run"))))
      << o.err;
  EXPECT_GE(position("run"), 1);
}

TEST_F(Mpirun, WhatAllFailOfIsSaidOnce) {
  for (const auto& [more, what] :
       {std::pair("--batch-size 3", "expected a multiple of 2"),
        std::pair("--batch-size 2 --augment standard", "mixes pairs"), std::pair("--lr -1", "--lr is -1"),
        std::pair("--frobnicate", "frobnicate")}) {
    const Outcome o = by(2, train("none", more));
    EXPECT_NE(o.status, 0);
    EXPECT_THAT(errors_of(o), testing::ElementsAre(HasSubstr(what))) << o.err;
  }
  const Outcome predict = by(2, "predict --run " + path("none") + " x.png");
  EXPECT_THAT(errors_of(predict),
              testing::ElementsAre(HasSubstr("cairn predict is the work of one process")));
}

// An image that rots after the split: the rank that meets it says so, and all end.
TEST_F(Mpirun, WhatOneFailsOfEndsAll) {
  ASSERT_EQ(cairn("split " + path("data") + " --out " + path("split.csv") + " --quiet").status, 0);
  const std::string image = make_png(32, 32, 1, 1);
  for (int c = 0; c < 3; ++c)
    for (int i = 0; i < 14; ++i)
      folder_.write("data/c" + std::to_string(c) + "/" + std::to_string(100 + i) + ".png",
                    image.substr(0, 60));
  const auto begin = std::chrono::steady_clock::now();
  const Outcome o = by(2, train("run", "--split " + path("split.csv")));
  EXPECT_LT(seconds_since(begin), 20);
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(errors_of(o), testing::Contains(HasSubstr(".png"))) << o.err;
}

}  // namespace
}  // namespace cairn::app
