#include "data/available_memory.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

/// A machine's /proc and /sys: 8 GiB available, 1 GiB of swap free.
class AvailableMemory : public testing::Test {
 protected:
  AvailableMemory() {
    folder_.write("proc/meminfo",
                  "MemTotal:       16777216 kB\nMemFree:  100 kB\nMemAvailable:    8388608 kB\nSwapFree:  "
                  "1048576 kB\n");
  }
  std::int64_t mib() const { return available_memory(folder_.path("")) / kMiB; }
  void group(const std::string& path, std::int64_t limit, std::int64_t used, std::int64_t droppable = 0) {
    const std::string folder = "sys/fs/cgroup" + path + "/";
    folder_.write(folder + "memory.max", limit < 0 ? "max\n" : std::to_string(limit * kMiB) + "\n");
    folder_.write(folder + "memory.current", std::to_string(used * kMiB) + "\n");
    folder_.write(folder + "memory.stat",
                  "anon 5\nfile 7\ninactive_file " + std::to_string(droppable * kMiB) + "\nactive_file 9\n");
  }
  TempFolder folder_;
};

TEST_F(AvailableMemory, IsTheMachinesWithoutControlGroups) { EXPECT_EQ(mib(), 9 * 1024); }

TEST_F(AvailableMemory, IsTheLeastThatAnyGroupAboveLeaves) {
  folder_.write("proc/self/cgroup", "0::/outer/inner\n");
  group("/outer/inner", 4096, 1000, 500);
  group("/outer", -1, 5000);
  EXPECT_EQ(mib(), 4096 - 1000 + 500);
  group("/outer", 6000, 5500);
  EXPECT_EQ(mib(), 500);
  group("/outer", 6000, 7000);  // over its limit already
  EXPECT_EQ(mib(), 0);
}

// A container that sees its own group at the top, under a path that is not there.
TEST_F(AvailableMemory, LooksAtTheTopInAContainer) {
  folder_.write("proc/self/cgroup", "0::/kubepods/pod7\n");
  group("", 2048, 48);
  EXPECT_EQ(mib(), 2000);
}

TEST_F(AvailableMemory, ReadsVersionOneToo) {
  folder_.write("proc/self/cgroup", "12:cpu,cpuacct:/job\n7:memory:/job\n1:name=systemd:/x\n");
  folder_.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", std::to_string(1000 * kMiB));
  folder_.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(300 * kMiB));
  EXPECT_EQ(mib(), 700);
}

TEST_F(AvailableMemory, SurvivesFilesThatMakeNoSense) {
  folder_.write("proc/self/cgroup", "\n:\n0:\n0::\n0::relative\nx:memory:/a\n");
  folder_.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "a lot");
  EXPECT_EQ(mib(), 9 * 1024);
  folder_.write("proc/meminfo", "nothing here\n");
  EXPECT_EQ(available_memory(folder_.path("")), std::numeric_limits<std::int64_t>::max());
}

TEST(AvailableMemoryHere, IsKnown) {
  EXPECT_GT(available_memory(), 0);
  EXPECT_LT(available_memory(), std::int64_t{1} << 50);
}

}  // namespace
}  // namespace cairn::data
