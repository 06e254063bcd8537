// Two hosts: network namespaces of our own with a link between them, over which the processes talk by TCP.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>

#include "apps/run_dir.h"
#include "tests/apps/short_run.h"
#include "tests/distributed/mpirun.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;

bool shell(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }

/// Host a, 10.77.0.1, and host b, 10.77.0.2. mpirun runs on a and starts its daemon on b by an agent in the
/// place of ssh. Names carry the process's number, so that tests may run side by side.
class TwoHosts : public ShortRun {
 protected:
  void SetUp() override {
    if (!mpirun_is_there()) GTEST_SKIP() << "mpirun is not there (Debian: openmpi-bin)";
    if (!shell("ip netns add " + a_))
      GTEST_SKIP() << "network namespaces are not allowed here (or no iproute2)";
    const std::string number = std::to_string(getpid());
    ASSERT_TRUE(shell("ip netns add " + b_ + " && ip link add va" + number + " netns " + a_ +
                      " type veth peer vb" + number + " netns " + b_));
    for (const auto& [host, device, address] :
         {std::tuple(a_, "va" + number, "10.77.0.1/24"), std::tuple(b_, "vb" + number, "10.77.0.2/24")}) {
      ASSERT_TRUE(shell("ip -n " + host + " addr add " + address + " dev " + device + " && ip -n " + host +
                        " link set lo up && ip -n " + host + " link set " + device + " up"));
    }
    link_ = "ip -n " + a_ + " link set va" + number;
    folder_.write("agent", "#!/bin/sh\nshift\nexec ip netns exec " + b_ +
                               " unshare -u sh -c \"hostname host-b; $*\"\n");
    std::filesystem::permissions(path("agent"), std::filesystem::perms::owner_all);
  }
  void TearDown() override {
    shell("ip netns del " + a_);
    shell("ip netns del " + b_);
  }

  /// Rank 0 on host-a, rank 1 on host-b. mpirun's own connection is watched, so that it ends with its daemon.
  std::string two_hosts() const {
    return "ip netns exec " + a_ + " unshare -u sh -c 'hostname host-a; exec \"$@\"' x " +
           mpirun(2, "--mca plm_rsh_agent " + path("agent") +
                         " --mca btl self,tcp --mca btl_tcp_if_include 10.77.0.0/24"
                         " --mca oob_tcp_if_include 10.77.0.0/24 --mca oob_tcp_keepalive_time 3"
                         " --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3"
                         " -H 10.77.0.1:1,10.77.0.2:1");
  }
  std::string train(const std::string& run, const std::string& more = "") const {
    return with_one_thread(ShortRun::train(run, "--peer-timeout 4s " + more));
  }
  void expect_to_go_on_like_whole() const {
    const Outcome rest = Running("train --quiet --resume " + path("run"), two_hosts()).end();
    ASSERT_EQ(rest.status, 0) << rest.err;
    expect_same_weights("whole", "run");
  }

  const std::string a_ = "cairn-a-" + std::to_string(getpid()), b_ = "cairn-b-" + std::to_string(getpid());
  std::string link_;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// To the bits of two processes on one host: what carries the messages does not matter.
TEST_F(TwoHosts, TrainAcrossALink) {
  const Outcome here = Running(train("whole"), mpirun(2)).end();
  ASSERT_EQ(here.status, 0) << here.err;
  const Outcome there = Running(train("run"), two_hosts()).end();
  ASSERT_EQ(there.status, 0) << there.err;
  expect_same_weights("whole", "run");
  EXPECT_THAT(read_file(path("run/train.log")), HasSubstr("on host-a, host-b"));
}

TEST_F(TwoHosts, AKilledRankOfTheOtherHostIsNamed) {
  ASSERT_EQ(Running(train("whole", "--epochs 8"), mpirun(2)).end().status, 0);
  Running run(train("run", "--epochs 8"), two_hosts());
  ASSERT_TRUE(run.wait_for([&] { return position("run") >= 2; }));
  const pid_t rank = rank_below(run.pid(), 1);
  ASSERT_GT(rank, 0);
  const auto begin = std::chrono::steady_clock::now();
  kill(rank, SIGKILL);
  const Outcome o = run.end();
  EXPECT_LT(seconds_since(begin), 20);
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.out + o.err,
              AllOf(HasSubstr("rank 1"), testing::AnyOf(HasSubstr("10.77.0.2"), HasSubstr("host-b"))));
  expect_to_go_on_like_whole();
}

TEST_F(TwoHosts, ACutLinkIsReportedWithTheRankBeyondIt) {
  ASSERT_EQ(Running(train("whole", "--epochs 8"), mpirun(2)).end().status, 0);
  Running run(train("run", "--epochs 8"), two_hosts());
  ASSERT_TRUE(run.wait_for([&] { return position("run") >= 2; }));
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(shell(link_ + " down"));
  const Outcome o = run.end();
  EXPECT_LT(seconds_since(begin), 30);
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.err, HasSubstr("error: rank 1 on host-b has not been heard of for 4 s")) << o.err;
  ASSERT_TRUE(shell(link_ + " up"));
  expect_to_go_on_like_whole();
}

}  // namespace
}  // namespace cairn::app
