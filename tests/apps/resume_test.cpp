// What resuming notices, and what stops a run without losing anything.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/apps/short_run.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

namespace fs = std::filesystem;

class Resuming : public ShortRun {
 protected:
  // A run stopped after its first step.
  void begin(const std::string& more = "") const {
    const Outcome o = cairn(train("run", "--time-limit 0.001s " + more));
    ASSERT_EQ(o.status, 1) << o.err;
    EXPECT_THAT(o.err, AllOf(StartsWith("error: stopped at --time-limit 0.001s, and saved"),
                             HasSubstr("cairn train --resume " + path("run"))));
  }
  Outcome resume(const std::string& more = "") const {
    return cairn("train --quiet --resume " + path("run") + " --time-limit 0 " + more);
  }
  static void expect_refused(const Outcome& o, const testing::Matcher<std::string>& what) {
    EXPECT_EQ(o.status, 2) << o.err;
    ASSERT_EQ(lines_of(o.err).size(), 1U) << o.err;
    EXPECT_THAT(o.err, AllOf(StartsWith("error: "), what));
  }
};

TEST_F(Resuming, ATimeLimitStopsAndSavesAndTheRestGivesTheSameBits) {
  finish("whole");
  begin();
  // Each time one step more, until the limit is lifted.
  EXPECT_EQ(cairn("train --quiet --resume " + path("run")).status, 1);
  EXPECT_EQ(cairn("train --quiet --resume " + path("run") + " --time-limit 0.002s").status, 1);
  EXPECT_EQ(position("run"), 3);
  const Outcome o = resume("--workers 3");
  ASSERT_EQ(o.status, 0) << o.err;
  expect_same_weights("whole", "run");
}

TEST_F(Resuming, AWrongTimeLimitIsRefused) {
  for (const char* text : {"5", "5d", "m", "-3m", "1e99h", "5 m", "nan s"})
    EXPECT_EQ(cairn(train("none", "--time-limit '" + std::string(text) + "'")).status, 2) << text;
}

TEST_F(Resuming, TwoSignalsLoseNothingSaved) {
  finish("whole");
  Running run(train("run"));
  ASSERT_TRUE(run.wait_for([&] { return position("run") >= 3; }));
  run.send(SIGINT);
  run.send(SIGINT);
  const Outcome stopped = run.end();
  EXPECT_THAT(stopped.status, testing::AnyOf(1, 128 + SIGINT));
  EXPECT_GE(position("run"), 3);
  const Outcome o = resume();
  ASSERT_EQ(o.status, 0) << o.err;
  expect_same_weights("whole", "run");
  EXPECT_THAT(unfinished_files("run"), testing::IsEmpty());
}

TEST_F(Resuming, TheProcessThatHoldsTheRunIsNamed) {
  Running first(train("run", "--epochs 1000"));
  ASSERT_TRUE(first.wait_for([&] { return position("run") >= 1; }));
  const std::string who = "is being trained by process " + std::to_string(first.pid()) + " on ";
  expect_refused(resume(), HasSubstr(who));
  expect_refused(cairn(train("run")), HasSubstr("not empty"));
  EXPECT_FALSE(first.ended());
  first.send(SIGKILL);
  EXPECT_EQ(first.end().status, 128 + SIGKILL);
  // No stale lock.
  EXPECT_EQ(resume("--epochs 1 --accept-changes").status, 0);
}

TEST_F(Resuming, OtherOptionsAreRefusedOrAccepted) {
  begin("--lr 0.01");
  expect_refused(
      resume("--lr 0.5 --batch-size 6 --threads 1"),
      AllOf(HasSubstr("--lr is 0.5, the run has 0.01"), HasSubstr("--batch-size is 6, the run has 4"),
            HasSubstr("--threads is 1, the run has 2"), HasSubstr("--accept-changes")));
  expect_refused(resume("--out " + path("other")), HasSubstr("leave out --out"));
  expect_refused(resume("--folds 3"), HasSubstr("--folds"));
  expect_refused(cairn(train("new", "--accept-changes")), HasSubstr("--resume"));
  // Of another shape: the state cannot be put into it.
  const Outcome shape = resume("--optimizer sgd --accept-changes");
  EXPECT_EQ(shape.status, 2);
  EXPECT_THAT(shape.err, HasSubstr("resume with the options of the run"));
  // The same value, and what does not change the result, need no leave.
  const Outcome same = resume("--lr 1e-2 --mean 0.5,0.5,0.5 --keep 3 --log-every-steps 1 --max-steps 0");
  EXPECT_EQ(same.status, 0) << same.err;
}

TEST_F(Resuming, AcceptedOptionsAreWarnedOfAndStay) {
  begin();
  const Outcome o = resume("--lr 0.5 --accept-changes");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("warning: accepted: --lr is 0.5"));
  EXPECT_THAT(read_file(path("run/config.json")), HasSubstr("\"lr\": 0.5"));
  const Outcome again = resume();
  EXPECT_EQ(again.status, 0) << again.err;
}

TEST_F(Resuming, ChangedDataIsRefusedOrAccepted) {
  begin();
  folder_.write("data/c1/105.png", make_png(32, 32, 99, 2));
  fs::remove(path("data/c0/100.png"));
  expect_refused(resume(), AllOf(HasSubstr("2 files of the data differ"), HasSubstr("c0/100.png is gone"),
                                 HasSubstr("c1/105.png has other content"), HasSubstr("--accept-changes")));
  const Outcome o = resume("--accept-changes");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("warning: accepted: 2 files"));
  EXPECT_THAT(read_file(path("run/split.csv")), testing::Not(HasSubstr("c0/100.png")));
  EXPECT_EQ(resume().status, 0);  // the split has been brought up to date
}

TEST_F(Resuming, TheDataMayLieElsewhere) {
  finish("whole");
  begin();
  fs::rename(path("data"), path("moved"));
  EXPECT_EQ(resume().status, 2);
  const Outcome o = resume("--data " + path("moved"));
  ASSERT_EQ(o.status, 0) << o.err;
  expect_same_weights("whole", "run");
}

TEST_F(Resuming, AnotherClassListIsRefused) {
  begin();
  fs::rename(path("data/c2"), path("data/c9"));
  expect_refused(resume(), HasSubstr("the class list differs: 'c2' gone; 'c9' new"));
  fs::rename(path("data/c9"), path("data/c2"));
  for (const char* name : {"data/d/1.png", "data/d/2.png"})
    folder_.write(name, make_png(32, 32, static_cast<unsigned>(name[7]), 1));
  for (const char* more : {"", "--accept-changes"})
    expect_refused(resume(more), AllOf(HasSubstr("'d' new"), HasSubstr("3 outputs")));
}

}  // namespace
}  // namespace cairn::app
