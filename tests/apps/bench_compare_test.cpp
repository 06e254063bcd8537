// scripts/bench-compare finds a slow-down of 5 % and stays silent where nothing has changed, in times as
// benchmarks have them: a common drift of some percent, a long tail, now and then an outlier.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/philox.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kBenchmarks = 40, kSlow = 17;

/// Times in microseconds: each benchmark's own level, 1.5 % of spread to the slow side, and 3 % of outliers
/// that take up to half as long again.
json run(std::uint64_t seed, int repetitions, double slow_down) {
  json rows = json::array();
  std::uint64_t drawn = 0;
  const auto uniform = [&] { return static_cast<double>(uniform_float(philox(seed, 0, drawn++).v[0])); };
  for (int b = 0; b < kBenchmarks; ++b)
    for (int r = 0; r < repetitions; ++r) {
      double us = 50 * std::pow(1.3, b % 20) * (1 - 0.015 * std::log(1 - uniform() * 0.999));
      if (uniform() < 0.03) us *= 1 + 0.5 * uniform();
      if (b == kSlow) us *= slow_down;
      rows.push_back({{"name", "kernel" + std::to_string(b) +
                                   "/32x56x56x64/fp32/cairn/repeats:" + std::to_string(repetitions)},
                      {"run_type", "iteration"},
                      {"real_time", us},
                      {"time_unit", "us"}});
    }
  return {{"benchmarks", rows}};
}

struct Answer {
  int status = 0;
  std::string text;
};

class BenchCompare : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (std::system("python3 -c '' 2>/dev/null") != 0) GTEST_SKIP() << "no python3 here";
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  Answer compare(const json& before, const json& after) const {
    std::ofstream(folder_ / "before.json") << before;
    std::ofstream(folder_ / "after.json") << after;
    return ask("'" + (folder_ / "before.json").string() + "' '" + (folder_ / "after.json").string() + "'");
  }
  Answer ask(const std::string& arguments) const {
    const std::string command = std::string(CAIRN_SOURCE_DIR) + "/scripts/bench-compare " + arguments +
                                " > '" + (folder_ / "out.txt").string() + "' 2>&1";
    Answer a;
    a.status = WEXITSTATUS(std::system(command.c_str()));
    std::ifstream in(folder_ / "out.txt");
    a.text.assign(std::istreambuf_iterator<char>(in), {});
    return a;
  }
  const fs::path folder_ = fs::temp_directory_path() / ("cairn_bench_compare_" + std::to_string(::getpid()));
};
// kernel_bench's repetitions, and the samples that engine/benchmark.h takes on a GPU.
INSTANTIATE_TEST_SUITE_P(Samples, BenchCompare, testing::Values(20, 30));

TEST_P(BenchCompare, FindsASlowDownOfFivePercentAndNothingElse) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    const Answer a = compare(run(seed, GetParam(), 1), run(100 + seed, GetParam(), 1.05));
    EXPECT_EQ(a.status, 1) << a.text;
    EXPECT_NE(a.text.find("slower"), std::string::npos) << a.text;
    EXPECT_NE(a.text.find("kernel" + std::to_string(kSlow) + "/"), std::string::npos) << a.text;
    EXPECT_NE(a.text.find(std::to_string(kBenchmarks) + " benchmarks compared, 1 slower"), std::string::npos)
        << a.text;
  }
}

TEST_P(BenchCompare, StaysSilentOnTheSameProgram) {
  for (const std::uint64_t seed : {11, 12, 13}) {
    const Answer a = compare(run(seed, GetParam(), 1), run(100 + seed, GetParam(), 1));
    EXPECT_EQ(a.status, 0) << a.text;
    EXPECT_EQ(a.text, std::to_string(kBenchmarks) + " benchmarks compared, 0 slower\n");
  }
}

TEST_P(BenchCompare, CallsASpeedUpFaster) {
  const Answer a = compare(run(1, GetParam(), 1.05), run(2, GetParam(), 1));
  EXPECT_EQ(a.status, 0) << a.text;
  EXPECT_NE(a.text.find("faster"), std::string::npos) << a.text;
}

TEST_P(BenchCompare, RefusesTooFewRepetitions) {
  const Answer a = compare(run(1, 3, 1), run(2, 3, 1));
  EXPECT_NE(a.status, 0);
  EXPECT_NE(a.text.find("fewer than 5 repetitions"), std::string::npos) << a.text;
}

/// Two programs on a machine that drifts: each call takes 1 % longer than the last, and half as long again
/// from the fifteenth on. Their commands print the times of their next call.
class BenchCompareByTurns : public BenchCompare {
 protected:
  static constexpr int kRounds = 30;
  Answer compare_by_turns(std::uint64_t seed, double slow_down) const {
    for (int turn = 0; turn < kRounds; ++turn)
      for (int i = 0; i < 2; ++i) {
        const bool after = (i == 1) == (turn % 2 == 0);  // A B, B A, ...
        const int calls = 2 * turn + i;
        json times = run(seed + static_cast<std::uint64_t>(calls), 3, after ? slow_down : 1);
        for (json& row : times["benchmarks"])
          row["real_time"] = row["real_time"].get<double>() * (1 + 0.01 * calls) * (calls < 15 ? 1 : 1.5);
        std::ofstream(folder_ / (std::string(after ? "after." : "before.") + std::to_string(turn))) << times;
      }
    std::ofstream(folder_ / "next.sh") << "n=$(cat \"$1.n\" 2>/dev/null || echo 0)\n"
                                          "echo $((n + 1)) >\"$1.n\"\ncat \"$1.$n\"\n";
    for (const char* side : {"before.n", "after.n"}) fs::remove(folder_ / side);
    const std::string next = "sh " + (folder_ / "next.sh").string() + " " + folder_.string();
    return ask("--run '" + next + "/before' '" + next + "/after' --rounds " + std::to_string(kRounds));
  }
};
INSTANTIATE_TEST_SUITE_P(Drift, BenchCompareByTurns, testing::Values(1));

TEST_P(BenchCompareByTurns, FindsASlowDownOfFivePercentAndNothingElse) {
  const Answer a = compare_by_turns(1000, 1.05);
  EXPECT_EQ(a.status, 1) << a.text;
  EXPECT_NE(a.text.find("kernel" + std::to_string(kSlow) + "/"), std::string::npos) << a.text;
  EXPECT_NE(a.text.find(std::to_string(kBenchmarks) + " benchmarks compared, 1 slower"), std::string::npos)
      << a.text;
}

TEST_P(BenchCompareByTurns, StaysSilentOnTheSameProgram) {
  for (const std::uint64_t seed : {2000, 3000}) {
    const Answer a = compare_by_turns(seed, 1);
    EXPECT_EQ(a.status, 0) << a.text;
    EXPECT_EQ(a.text, std::to_string(kBenchmarks) + " benchmarks compared, 0 slower\n");
  }
}

TEST_P(BenchCompareByTurns, SaysWhichCommandFails) {
  const Answer a = ask("--run false false");
  EXPECT_NE(a.status, 0);
  EXPECT_NE(a.text.find("false ended with status 1"), std::string::npos) << a.text;
}

}  // namespace
}  // namespace cairn
