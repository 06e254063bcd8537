// Training killed at random moments, and states torn afterwards: what was saved is found again, and the run
// ends with the bits of one that nothing happened to. Five kills; with CAIRN_SOAK=1 (scripts/test --all)
// fifty.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "apps/run_state.h"

#include "tests/apps/short_run.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;

namespace fs = std::filesystem;

class Killed : public ShortRun {
 protected:
  std::string state(const std::string& run) const { return path(run + "/checkpoints/last.state"); }
};

TEST_F(Killed, EndsWithTheBitsOfARunThatWasNot) {
  const int kills = std::getenv("CAIRN_SOAK") ? 50 : 5;
  const std::string more = "--keep 2 --epochs 12";
  finish("whole", more);
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto up_to = [&](int n) { return std::uniform_int_distribution<int>(0, n)(random); };

  std::int64_t saved = 0;
  int during_writes = 0, before_the_first = 0;
  for (int kill = 0; kill < kills; ++kill) {
    const bool begun = saved > 0;
    if (!begun) fs::remove_all(path("cut"));
    Running run(begun ? "train --quiet --resume " + path("cut") : train("cut", more));
    switch (kill % 3) {
      case 0:  // while a state is being written
        run.wait_for([&] { return fs::exists(path("cut/checkpoints")) && position("cut") > saved; });
        run.wait_for([&] { return !unfinished_files("cut").empty(); });
        break;
      case 1:  // soon after a state was saved
        run.wait_for([&] { return position("cut") > saved; });
        std::this_thread::sleep_for(std::chrono::microseconds(up_to(20'000)));
        break;
      default:  // whenever: while it starts, reads the data, resumes
        std::this_thread::sleep_for(std::chrono::milliseconds(up_to(500)));
    }
    run.send(SIGKILL);
    if (const Outcome ended = run.end(); ended.status != 128 + SIGKILL) {
      ASSERT_EQ(ended.status, 0) << ended.err;
      expect_same_weights("whole", "cut");  // it was done sooner: once more
      fs::remove_all(path("cut"));
      saved = 0;
      --kill;
      continue;
    }
    if (fs::exists(path("cut")) && !unfinished_files("cut").empty()) ++during_writes;
    const std::int64_t now = position("cut");
    ASSERT_GE(now, saved) << "a saved state was lost by kill " << kill;
    saved = now;
    if (saved > 0) continue;
    // Nothing was saved yet: that is said, and it begins anew.
    ++before_the_first;
    const Outcome none = cairn("train --quiet --resume " + path("cut"));
    EXPECT_EQ(none.status, 2);
    EXPECT_EQ(lines_of(none.err).size(), 1U) << none.err;
  }
  const Outcome o = cairn("train --quiet --workers 3 --resume " + path("cut"));
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.err, "");
  expect_same_weights("whole", "cut");
  EXPECT_THAT(unfinished_files("cut"), testing::IsEmpty());
  RecordProperty("kills", kills);
  RecordProperty("with_a_file_half_written", during_writes);
  RecordProperty("before_the_first_state", before_the_first);
}

TEST_F(Killed, ATornStateIsNamedAndTheOneBeforeIsUsed) {
  finish("whole");
  for (const bool truncated : {true, false}) {
    fs::remove_all(path("cut"));
    Running run(train("cut"));
    ASSERT_TRUE(run.wait_for([&] { return position("cut") >= 9; }));
    run.send(SIGKILL);
    run.end();
    const std::int64_t before = position("cut");
    if (truncated) {
      fs::resize_file(state("cut"), fs::file_size(state("cut")) - 1);
    } else {
      std::string bytes = read_file(state("cut"));
      bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
      folder_.write("cut/checkpoints/last.state", bytes);  // in place: a link of it changes too
    }
    EXPECT_LT(position("cut"), before);
    const Outcome o = cairn("train --quiet --resume " + path("cut"));
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_THAT(o.err, AllOf(HasSubstr("warning: " + state("cut") + ": "),
                             HasSubstr("going on from the state before: " + path("cut/checkpoints/state-"))));
    expect_same_weights("whole", "cut");
  }
}

// Every 4 KiB of the newest state, cut off there and flipped there: never used, never a crash.
TEST_F(Killed, NoTornStateIsTakenForAWholeOne) {
  ASSERT_EQ(cairn(train("run", "--max-steps 2")).status, 0);
  const std::string whole = read_file(state("run"));
  ASSERT_GT(whole.size(), 1'000'000U);
  const RunDir run = RunDir::open(path("run"));
  Console console(true, false);
  const std::string before = path("run/checkpoints/state-1.state");
  ASSERT_TRUE(fs::exists(before));
  int found = 0, tried = 0;
  const auto attempt = [&] {
    ++tried;
    testing::internal::CaptureStderr();
    const FoundState state_found = find_state(run, console);
    const std::string warnings = testing::internal::GetCapturedStderr();
    if (state_found.path == before && lines_of(warnings).size() == 2) ++found;
  };
  std::fstream file(state("run"), std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at)).put(byte).flush();
  };
  for (std::size_t at = 0; at < whole.size(); at += 4096) {
    put(at, static_cast<char>(whole[at] ^ (1 << (at / 4096 % 8))));
    attempt();
    put(at, whole[at]);
  }
  put(whole.size() - 1, static_cast<char>(~whole.back()));
  attempt();
  file.close();
  for (std::size_t size = whole.size() / 4096 * 4096;; size -= 4096) {
    fs::resize_file(state("run"), size);
    attempt();
    if (size == 0) break;
  }
  EXPECT_EQ(found, tried);
  // With the older one gone too, it is refused in one line.
  fs::remove(before);
  const Outcome o = cairn("train --quiet --resume " + path("run"));
  EXPECT_EQ(o.status, 2);
  EXPECT_EQ(lines_of(o.err).size(), 1U) << o.err;
  EXPECT_THAT(o.err, AllOf(HasSubstr("last.state"), HasSubstr("there is no older one")));
}

TEST_F(Killed, AsManyOlderStatesAreKeptAsAskedFor) {
  const auto kept = [&](const std::string& run) {
    std::vector<std::int64_t> steps;
    for (const OlderState& s : older_states(RunDir::open(path(run)))) steps.push_back(s.step);
    return steps;
  };
  finish("three", "--keep 3");
  EXPECT_THAT(kept("three"), testing::ElementsAre(20, 19, 18));
  finish("none", "--keep 0 --max-steps 3");
  EXPECT_THAT(kept("none"), testing::IsEmpty());
  finish("default", "--max-steps 3");
  EXPECT_THAT(kept("default"), testing::ElementsAre(2));
}

}  // namespace
}  // namespace cairn::app
